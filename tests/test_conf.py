"""The VISUALSEARCH setting: defaults, live reading, and documents that name every key."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from visualsearch import conf

DOCS = Path(__file__).resolve().parent.parent / "docs"


def test_get_settings__without_the_setting_everything_is_default(settings: LazySettings) -> None:
    del settings.VISUALSEARCH

    assert conf.get_settings() == conf.Settings()


def test_get_settings__is_read_live() -> None:
    with override_settings(VISUALSEARCH={"LIMIT_MAX": 7}):
        assert conf.get_settings().LIMIT_MAX == 7
        with override_settings(VISUALSEARCH={"LIMIT_MAX": 8}):
            assert conf.get_settings().LIMIT_MAX == 8
        assert conf.get_settings().LIMIT_MAX == 7


def test_get_settings__a_dictionary_that_is_changed_in_place_is_read_live(
    settings: LazySettings,
) -> None:
    settings.VISUALSEARCH = {"LIMIT_MAX": 7}
    assert conf.get_settings().LIMIT_MAX == 7
    settings.VISUALSEARCH["LIMIT_MAX"] = 8
    assert conf.get_settings().LIMIT_MAX == 8
    del settings.VISUALSEARCH["LIMIT_MAX"]
    assert conf.get_settings() == conf.Settings()


def test_get_settings__never_writes_to_the_settings(settings: LazySettings) -> None:
    given = {"PRODUCT_MODEL": "shop.Product", "CHECKPOINT_ROOT": "/srv/checkpoints"}
    settings.VISUALSEARCH = dict(given)

    root = conf.get_settings().CHECKPOINT_ROOT

    assert root == Path("/srv/checkpoints")
    assert given == settings.VISUALSEARCH


def test_get_settings__unknown_keys_are_left_to_the_check(settings: LazySettings) -> None:
    settings.VISUALSEARCH = {"LIMIT_MAXX": 7}

    assert conf.get_settings() == conf.Settings()


def test_get_settings__cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        conf.get_settings().LIMIT_MAX = 7  # type: ignore[misc]


def test_get_settings__not_a_dictionary(settings: LazySettings) -> None:
    settings.VISUALSEARCH = "shop.Product"

    with pytest.raises(ImproperlyConfigured, match="must be a dictionary, not str"):
        conf.get_settings()


def test_checkpoint_root__is_beside_the_project_by_default(
    settings: LazySettings, tmp_path: Path
) -> None:
    settings.VISUALSEARCH = {}
    settings.BASE_DIR = str(tmp_path)

    root = conf.get_settings().CHECKPOINT_ROOT

    assert root == tmp_path / "checkpoints"


def test_checkpoint_root__without_base_dir_is_where_the_process_runs(
    settings: LazySettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.VISUALSEARCH = {}
    del settings.BASE_DIR
    monkeypatch.chdir(tmp_path)

    root = conf.get_settings().CHECKPOINT_ROOT

    assert root == tmp_path / "checkpoints"


@pytest.mark.parametrize("name", ["", "Product", "shop.models.Product"])
def test_product_model_name__must_be_app_and_model(name: str, settings: LazySettings) -> None:
    settings.VISUALSEARCH = {"PRODUCT_MODEL": name}

    with pytest.raises(ImproperlyConfigured) as caught:
        conf.product_model_name()

    assert repr(name) in str(caught.value)
    assert '"PRODUCT_MODEL": "shop.Product"' in str(caught.value)


def documented_defaults() -> dict[str, str]:
    """Key -> default, from the tables of docs/settings.md."""
    rows = re.findall(
        r"^\| `(\w+)` \| (.*?) \|", (DOCS / "settings.md").read_text(), flags=re.MULTILINE
    )
    return dict(rows)


def test_documents__settings_md_has_every_setting_and_no_other() -> None:
    assert sorted(documented_defaults()) == sorted(conf.setting_names())


def default_of(field: dataclasses.Field[Any]) -> Any:
    if isinstance(field.default_factory, Callable):  # type: ignore[arg-type]
        return field.default_factory()  # type: ignore[misc]
    return field.default


@pytest.mark.parametrize("field", dataclasses.fields(conf.Settings), ids=lambda f: f.name)
def test_documents__settings_md_gives_the_default(field: dataclasses.Field[Any]) -> None:
    documented = documented_defaults()[field.name]
    if field.name == "CHECKPOINT_ROOT":
        assert documented == '`BASE_DIR / "checkpoints"`'
        return
    if field.name == "PRODUCT_MODEL":
        assert documented == "required"
        return

    assert eval(documented.strip("`"), {}) == default_of(field)
