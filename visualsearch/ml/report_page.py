"""An evaluation as one HTML file: figures, slices, the worst queries in pictures, the joined space."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from visualsearch.ml.compare import Change
from visualsearch.ml.data import Catalogue
from visualsearch.ml.joined_picture import joined_picture
from visualsearch.ml.judge import ImageTextEncoder
from visualsearch.ml.report import CHANCE, COMPOSED, OWN, Asked, Line, Report, number
from visualsearch.ml.thumbnails import data_uri

WORST = 6
"""Queries shown of each set."""
SHOWN = 5
SECTIONS = {
    "similar": ("Similar products", "Queries are photos; the product itself does not count."),
    "text": ("Text search", "Every product that the text describes is right."),
    "composed": (
        "Like this, but…",
        "A photo and a sentence; the photo's product does not count. The gap is what composition "
        "adds to the better of photo and words alone.",
    ),
    "wild": ("Phone photos", "The product's own photo, cropped, lit or pasted: which one is it?"),
    "slices": ("Slices", "The main figure by kind and, where known, by whom it is for."),
}
KEY_FIGURES = (
    ("similar", "kind P@10", "ten similar products of the same kind"),
    ("text", "title MRR", "reciprocal rank of the product by its title"),
    ("composed", "R@10", "“like this but…” answered among ten"),
    ("composed", " gap", "of that, more than photo or words alone give"),
    ("wild", "(background) R@1", "phone photo finds its product first"),
)


class _Picture(Protocol):
    def __call__(self, product: int, *, mark: str = "", said: str = "") -> str: ...


def write_page(
    path: Path,
    report: Report,
    encoder: ImageTextEncoder,
    catalogue: Catalogue,
    *,
    title: str,
    changes: Sequence[Change] = (),
    compared_with: str = "",
) -> None:
    """Writes the page to `path`; it needs no network and no other file.

    `catalogue` is what was evaluated. With `changes` (`ml.compare`) a table against another
    checkpoint, whose name is `compared_with`, is on it as well.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        page(report, encoder, catalogue, title=title, changes=changes, compared_with=compared_with),
        encoding="utf-8",
    )


def page(
    report: Report,
    encoder: ImageTextEncoder,
    catalogue: Catalogue,
    *,
    title: str,
    changes: Sequence[Change] = (),
    compared_with: str = "",
) -> str:
    """The page as text; see `write_page`."""
    style = files("visualsearch.ml").joinpath("report_page.css").read_text(encoding="utf-8")
    health = " · ".join(f"{escape(str(k))} {escape(str(v))}" for k, v in report.health.items())
    whole = f", {report.whole:,} in the whole catalogue" if report.whole else ""
    parts = [
        "<!doctype html>",
        '<html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{escape(title)}</title><style>{style}</style></head><body><main>",
        f"<header><h1>{escape(title)}</h1>",
        f"<p>{report.gallery:,} products that training has not seen{whole}; figures with 95 % "
        f"bootstrap intervals.</p><p class=health>{health}</p></header>",
        _cards(report),
        *(_section(report, name) for name in dict.fromkeys(each.section for each in report.lines)),
        _changes(changes, compared_with),
    ]
    svg, said = "", ""
    if any(each.section == "text" for each in report.asked):
        svg, said = joined_picture(report, encoder, catalogue)
    if svg:
        parts.append(f'<section id="space"><h2>One space</h2><p>{escape(said)}</p>{svg}</section>')
    parts.append(_worst(report, catalogue))
    parts.append("</main></body></html>\n")
    return "\n".join(parts)


def _cards(report: Report) -> str:
    cards = []
    for section, metric, said in KEY_FIGURES:
        for line in report.lines:
            if line.section == section and line.metric.endswith(metric) and line.system in OWN:
                figure = line.estimate
                cards.append(
                    f"<li><b>{number(figure.value)}</b><span>{escape(line.metric)}</span>"
                    f"<small>{escape(said)}</small></li>"
                )
                break
    return f'<ul class="cards">{"".join(cards)}</ul>'


def _section(report: Report, section: str) -> str:
    lines = [each for each in report.lines if each.section == section]
    plain, _, scope = section.partition(" (")
    heading, said = SECTIONS.get(plain, (section, ""))
    if scope:
        heading, said = f"{heading} in the whole catalogue", ""
    systems = list(dict.fromkeys(each.system for each in lines))
    cells = {(each.metric, each.system): each for each in lines}
    rows = []
    last = ""
    for metric in dict.fromkeys(each.metric for each in lines):
        # A stronger line where another query set begins: "title R@1", "title MRR", then the next.
        about, last = last, re.sub(r" (R@\d+|P@\d+|MRR|median rank|recall@\d+|gap)\b", "", metric)
        begins = ' class="first"' if last != about and plain not in ("similar", "slices") else ""
        found = [cells.get((metric, system)) for system in systems]
        best = _best(found, lower="rank" in metric)
        values = "".join(_cell(each, is_best=each is not None and each is best) for each in found)
        queries = max(each.estimate.queries for each in found if each is not None)
        rows.append(
            f'<tr{begins}><th scope="row">{escape(metric)}</th>{values}<td>{queries}</td></tr>'
        )
    head = "".join(f'<th scope="col">{escape(system)}</th>' for system in systems)
    return (
        f'<section id="{escape(plain)}"><h2>{escape(heading)}</h2><p>{escape(said)}</p>'
        f'<div class="scroll"><table><thead><tr><th scope="col">figure</th>{head}'
        f'<th scope="col">queries</th></tr></thead><tbody>{"".join(rows)}</tbody></table></div>'
        "</section>"
    )


def _best(found: list[Line | None], *, lower: bool) -> Line | None:
    lines = [each for each in found if each is not None and each.system != CHANCE]
    if len(lines) < 2:
        return None
    return (min if lower else max)(lines, key=lambda each: each.estimate.value)


def _cell(line: Line | None, *, is_best: bool) -> str:
    if line is None:
        return '<td class="none">–</td>'
    figure = line.estimate
    share = f' style="--share:{figure.value:.3f}"' if _is_share(line) else ""
    classes = " ".join([*(["own"] if line.system in OWN else []), *(["best"] if is_best else [])])
    interval = ""
    if line.system != CHANCE:
        interval = f"<small>{number(figure.low)} – {number(figure.high)}</small>"
    return f'<td class="{classes}"{share}><span>{number(figure.value)}</span>{interval}</td>'


def _is_share(line: Line) -> bool:
    return "rank" not in line.metric and 0 <= line.estimate.value <= 1


def _changes(changes: Sequence[Change], compared_with: str) -> str:
    if not changes:
        return ""
    rows = []
    for each in changes:
        if each.system not in OWN:
            continue
        change = each.difference
        sign = ("up" if change.value > 0 else "down") if each.is_significant else ""
        rows.append(
            f'<tr><th scope="row">{escape(each.metric)} <small>{escape(each.section)}</small></th>'
            f"<td>{number(each.before)}</td><td>{number(each.after)}</td>"
            f'<td class="{sign}"><span>{change.value:+.3f}</span>'
            f"<small>{change.low:+.3f} – {change.high:+.3f}</small></td>"
            f"<td>{change.queries}</td></tr>"
        )
    return (
        f'<section id="changes"><h2>Against {escape(compared_with)}</h2><p>Paired query by query; '
        "coloured where the 95 % interval leaves zero out.</p>"
        '<div class="scroll"><table><thead><tr><th scope="col">figure</th>'
        f'<th scope="col">{escape(compared_with)}</th><th scope="col">this one</th>'
        '<th scope="col">change</th><th scope="col">queries</th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _worst(report: Report, catalogue: Catalogue) -> str:
    pictures: dict[int, str] = {}

    def picture(product: int, *, mark: str = "", said: str = "") -> str:
        item = catalogue.items[product]
        if product not in pictures:
            pictures[product] = data_uri(catalogue.pixels[item.images[0]])
        name = escape(item.texts[0] if item.texts else item.label or item.id)
        caption = f"<figcaption>{said or name}</figcaption>"
        return (
            f'<figure class="{mark}"><img src="{pictures[product]}" alt="{name}" title="{name}">'
            f"{caption}</figure>"
        )

    sets = []
    for asked in report.asked:
        # Ranks of ties all count, and a query with nothing right was never asked.
        ranks = np.where(np.isfinite(asked.found.ranks), asked.found.ranks, -1)
        order = _furthest(asked, ranks)
        if not order:
            continue
        rows = "".join(_query(asked, row, picture) for row in order)
        middle = float(np.median(ranks[ranks > 0]))
        heading = SECTIONS.get(asked.section, (asked.section, ""))[0]
        sets.append(
            f"<details{' open' if _is_main(asked) else ''}><summary>{escape(heading)}: "
            f"{escape(asked.name)} <small>{len(ranks)} queries, median rank {middle:.0f}</small>"
            f"</summary>{rows}</details>"
        )
    if not sets:
        return ""
    return (
        '<section id="worst"><h2>Worst queries</h2><p>Those whose right answer stands furthest '
        "down: the query, the first five found (right ones framed), and the right one with its "
        f"rank.</p>{''.join(sets)}</section>"
    )


def _furthest(asked: Asked, ranks: npt.NDArray[np.floating]) -> list[int]:
    """Rows of the worst queries, one a product: a bad photo would fill the page by itself."""
    rows: dict[int, int] = {}
    for row in np.argsort(-ranks, kind="stable").tolist():
        if ranks[row] > 1:
            rows.setdefault(int(asked.products[row]), row)
        if len(rows) == WORST:
            break
    return list(rows.values())


def _query(asked: Asked, row: int, picture: _Picture) -> str:
    product = int(asked.products[row])
    query = ""
    if asked.photos is not None:
        query = f'<figure><img src="{data_uri(asked.photos[row])}" alt=""></figure>'
    elif asked.with_photo:
        query = picture(product)
    text = f"<q>{escape(asked.texts[row])}</q>" if asked.texts else ""
    found = asked.found
    top = "".join(
        picture(int(index), mark="right" if right else "")
        for index, right in zip(found.top[row, :SHOWN], found.is_right[row, :SHOWN], strict=True)
    )
    best = int(found.best[row])
    missed = picture(best, mark="right", said=f"rank {found.ranks[row]:.0f}") if best >= 0 else ""
    return (
        f'<div class="query"><div class="asked">{query}{text}</div>'
        f'<div class="found">{top}</div><div class="missed">{missed}</div></div>'
    )


def _is_main(asked: Asked) -> bool:
    return (asked.section, asked.name) == ("text", "title") or asked.section == COMPOSED
