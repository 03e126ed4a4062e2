"""What the widget adds to a product page: bytes, requests, layout shift, and where its texts come from."""

from __future__ import annotations

from typing import Any

import pytest
from pytest_django.live_server_helper import LiveServer
from selenium import webdriver

from shop.models import Product
from tests.catalogue import make_product, photo
from tests.e2e.steps import all_of, wait_for_images
from visualsearch.models import Checkpoint
from visualsearch.templatetags import visualsearch as templatetags
from visualsearch.testing import COLOURS, fake_checkpoint
from visualsearch.upkeep import indexing, neighbours

pytestmark = pytest.mark.django_db(transaction=True)

MEASURE = """
const done = arguments[arguments.length - 1];
let shift = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
}).observe({type: "layout-shift", buffered: true});
setTimeout(() => {
  // A browser asks for the icon once, whichever page comes first.
  const parts = performance.getEntriesByType("resource").filter(({name}) => !name.endsWith("/icon.svg"));
  const [page] = performance.getEntriesByType("navigation");
  done({
    requests: 1 + parts.length,
    bytes: page.decodedBodySize + parts.reduce((sum, part) => sum + part.decodedBodySize, 0),
    scripts: parts.filter((part) => part.name.endsWith(".js")).length,
    elsewhere: parts.filter((part) => !part.name.startsWith(location.origin)).map((part) => part.name),
    shift,
  });
}, 500);
"""


def measure(browser: webdriver.Chrome, address: str) -> dict[str, Any]:
    """The page as somebody sees it who has scrolled to its end, from an empty cache."""
    browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
    browser.get(address)
    browser.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    wait_for_images(browser)
    figures: dict[str, Any] = browser.execute_async_script(MEASURE)
    return figures


def test_widget__adds_its_cards_and_moves_nothing(
    live_server: LiveServer,
    strict: webdriver.Chrome,
    record_property: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(templatetags, "WIDGET_MILLISECONDS", 30_000)  # on a busy machine as well
    for number, colour in enumerate(COLOURS):
        make_product(
            photo(colour, seed=number),
            name=f"{colour} hat",
            category=f"only {colour}",  # so that nothing is left to show without a checkpoint
            colour=colour,
            stock=3,
        )
    checkpoint = fake_checkpoint()
    indexing.index_pending()
    neighbours.compute(checkpoint)
    address = f"{live_server.url}{Product.objects.all()[0].get_absolute_url()}"

    with_widget = measure(strict, address)
    cards = len(all_of(strict, ".visual-similar .card"))
    Checkpoint.objects.update(state=Checkpoint.State.RETIRED)
    without = measure(strict, address)

    assert cards == 8
    assert not all_of(strict, ".visual-similar")
    record_property("with_widget", with_widget)
    record_property("without_widget", without)
    print(f"with the widget {with_widget}, without {without}")
    assert with_widget["requests"] - without["requests"] <= cards  # a photo a card, and no more
    assert with_widget["scripts"] == without["scripts"] == 1
    assert with_widget["elsewhere"] == without["elsewhere"] == []
    assert with_widget["shift"] < 0.1 and with_widget["shift"] <= without["shift"] + 0.01
