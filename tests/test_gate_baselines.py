"""A first checkpoint must read: its texts have to find products more often than chance does."""

from __future__ import annotations

from visualsearch.lifecycle.gate import Figure
from visualsearch.lifecycle.gate_baselines import beats_chance
from visualsearch.lifecycle.verdict import Check


def _line(metric: str, system: str, value: float, *, low: float = 0.0, queries: int = 50) -> Figure:
    return Figure(
        section="text",
        metric=metric,
        system=system,
        value=value,
        low=low,
        high=1.0,
        queries=queries,
    )


def _checks(*lines: Figure) -> list[Check]:
    return list(beats_chance(lines, encoder="encoder", chance="chance"))


def test_beats_chance__a_figure_clearly_above_chance_passes() -> None:
    (check,) = _checks(
        _line("title R@10", "encoder", 0.5, low=0.4), _line("title R@10", "chance", 0.1)
    )
    assert check.passed
    assert (check.figure, check.reason) == (0.5, "")


def test_beats_chance__at_chance_or_only_perhaps_above_it_is_refused() -> None:
    for value, low in ((0.1, 0.05), (0.14, 0.11), (0.2, 0.08), (float("nan"), float("nan"))):
        (check,) = _checks(
            _line("title R@10", "encoder", value, low=low), _line("title R@10", "chance", 0.1)
        )
        assert not check.passed
        assert "chance is 0.100" in check.reason


def test_beats_chance__of_few_products_the_first_one_decides() -> None:
    lines = [
        *(_line(f"title R@{k}", "chance", chance) for k, chance in ((1, 0.1), (5, 0.5), (10, 1.0))),
        _line("title R@10", "encoder", 1.0, low=1.0),
        _line("title R@5", "encoder", 1.0, low=1.0),
    ]
    (check,) = _checks(*lines, _line("title R@1", "encoder", 0.12, low=0.02))
    assert (check.name, check.passed) == ("title R@1 beyond chance", False)
    (check,) = _checks(*lines, _line("title R@1", "encoder", 0.6, low=0.4))
    assert check.passed


def test_beats_chance__without_titles_short_queries_decide() -> None:
    (check,) = _checks(
        _line("attributes R@10", "encoder", 0.1), _line("attributes R@10", "chance", 0.1)
    )
    assert (check.name, check.passed) == ("attributes R@10 beyond chance", False)


def test_beats_chance__nothing_is_said_of_no_texts_or_too_few() -> None:
    assert _checks() == []
    few = {"queries": 4}
    assert not _checks(
        _line("title R@1", "encoder", 0.0, **few), _line("title R@1", "chance", 0.1, **few)
    )
    assert not _checks(_line("title R@1", "encoder", 1.0), _line("title R@1", "chance", 1.0))
