"""Each of our admin pages under django-unfold: its main elements are there, seen, and work."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.contrib import admin
from pytest_django.live_server_helper import LiveServer
from selenium import webdriver
from unfold.admin import ModelAdmin

from tests.e2e.steps import all_of, one, press
from tests.e2e.test_accessibility import admin_pages, in_theme, log_in, shop
from visualsearch.models import Checkpoint, IndexEntry, TrainingRun, WordSearch

__all__ = ["shop"]  # the fixture

pytestmark = pytest.mark.django_db(transaction=True)

MAIN = {
    "runs": "#result_list tbody tr",
    "retrain": "#id_recipe, [name=recipe]",
    "run done": ".visualsearch-chart svg polyline",
    "run failed": ".visualsearch-error",
    "run under way": "progress.visualsearch-bar",
    "cancel": "#content form [type=submit]",
    "checkpoints": 'a[href$="/checkpoint/map/"]',
    "checkpoint": ".visualsearch-state",
    "promote": "#content form [type=submit]",
    "roll back": "#content form [type=submit]",
    "changed neighbours": ".visualsearch-choose select[name=before]",
    "inspector": ".visualsearch-neighbours li img",
    "inspector with words": ".visualsearch-neighbours li img",
    "map": ".visualsearch-map circle",
    "index health": "progress.visualsearch-bar",
    "failed photos": "#result_list tbody tr",
    "entry": ".visualsearch-thumbnail",
    "poor answers": ".visualsearch-words",
    "poor answers, none": ".visualsearch-choose select[name=problem]",
}
"""What each page is for: an element of it that has to be seen."""
SEEN_AND_IN_THE_WINDOW = """
const box = arguments[0].getBoundingClientRect();
return box.width > 0 && box.height > 0 && box.left >= 0
  && document.documentElement.scrollWidth <= document.documentElement.clientWidth;
"""


@pytest.fixture(params=["light", "dark"])
def owner(
    browser: webdriver.Chrome, live_server: LiveServer, request: pytest.FixtureRequest
) -> webdriver.Chrome:
    in_theme(browser, request.param)
    log_in(browser, str(live_server.url))
    return browser


def test_admins__are_unfolds_own() -> None:
    ours = [admin.site._registry[m] for m in (Checkpoint, IndexEntry, TrainingRun, WordSearch)]

    assert all(isinstance(each, ModelAdmin) for each in ours)


def test_pages__show_what_they_are_for(
    shop: str, owner: webdriver.Chrome, shoot: Callable[[str], None]
) -> None:
    pages = admin_pages()
    assert set(pages) == set(MAIN), "say what the page is for"
    wrong = []
    for name, address in pages.items():
        owner.get(shop + address)
        assert all_of(owner, "#page.flex #main"), f"{name} is not in Unfold's frame"
        main = [each for each in all_of(owner, MAIN[name]) if each.is_displayed()]
        if not main or not owner.execute_script(SEEN_AND_IN_THE_WINDOW, main[0]):
            wrong.append(name)
        shoot(name.replace(" ", "-").replace(",", ""))

    assert wrong == []


def test_retrain__its_button_starts_a_run(shop: str, owner: webdriver.Chrome) -> None:
    owner.get(f"{shop}/admin/visualsearch/trainingrun/add/")

    go_to_run = '[name="_save"]'
    before = owner.current_url
    press(owner, go_to_run)
    one(owner, ".visualsearch-run")

    assert owner.current_url != before
    assert TrainingRun.objects.get().state == "queued"
