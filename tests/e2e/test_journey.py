"""A shopper's journey in a real browser: grid, product, words, photo, "like this but…"; with and without JavaScript.

Any error on the console, and any violation of the Content-Security-Policy, fails the test.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import pytest
from django.core.management import call_command
from pytest_django.live_server_helper import LiveServer
from selenium import webdriver
from selenium.webdriver.support.ui import WebDriverWait

from shop.models import Product
from tests.e2e.steps import WITHIN_SECONDS, all_of, go, one, press, wait_for_images
from visualsearch.testing import fake_checkpoint
from visualsearch.upkeep import indexing

PRODUCTS = 60

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shop(live_server: LiveServer) -> str:
    """The address of a running shop with a drawn catalogue that is indexed."""
    call_command("shop_draw", products=PRODUCTS, verbosity=0)
    fake_checkpoint()
    counts = indexing.index_pending()
    assert counts.indexed == PRODUCTS
    return str(live_server.url)


def products_in(browser: webdriver.Chrome, selector: str) -> list[Product]:
    """The products that the cards in `selector` link to, in their order."""
    links = [link.get_attribute("href") or "" for link in all_of(browser, f"{selector} .card a")]
    skus = [found[1] for link in links if (found := re.search(r"/products/([^/]+)/$", link))]
    return [Product.objects.get(sku=unquote(sku)) for sku in dict.fromkeys(skus)]


def photo_of(product: Product, folder: Path) -> Path:
    """A file as a shopper might have it: the front photo of a product."""
    path = folder / "my photo.jpg"
    with product.images.all()[0].original.open("rb") as file:
        path.write_bytes(file.read())
    return path


def test_journey__from_the_grid_to_like_this_but(
    shop: str, strict: webdriver.Chrome, shoot: Callable[[str], None], tmp_path: Path
) -> None:
    browser = strict

    # The grid shows the catalogue.
    browser.get(shop)
    assert len(all_of(browser, ".grid .card")) >= 20
    wait_for_images(browser)
    shoot("1-grid")

    # A product page has its photo and the similar products.
    go(browser, lambda: press(browser, ".grid .card a"))
    chosen = Product.objects.get(sku=browser.current_url.rstrip("/").rpartition("/")[2])
    assert one(browser, "h1").text == chosen.name
    similar = products_in(browser, ".visual-similar")
    assert len(similar) == 8
    assert chosen not in similar
    wait_for_images(browser)
    shoot("2-product")

    # Words.
    one(browser, "visual-search input[name=q]").send_keys("blue")
    go(browser, lambda: press(browser, ".visual-search-words button"))
    assert "q=blue" in browser.current_url
    found = products_in(browser, ".visual-results")
    assert found[0].colour == "blue"
    assert "result" in one(browser, ".visual-results [role=status]").text
    shoot("3-words")

    # A photo: chosen, shown, and searched for when the button is pressed, not before.
    press(browser, ".visual-search-photo summary")
    one(browser, "visual-search input[type=file]").send_keys(str(photo_of(chosen, tmp_path)))
    assert one(browser, ".visual-search-preview img").is_displayed()
    WebDriverWait(browser, WITHIN_SECONDS).until(
        lambda _driver: "ready" in one(browser, ".visual-search-status").text
    )
    assert "q=blue" in browser.current_url
    shoot("4-photo-chosen")
    go(browser, lambda: press(browser, ".visual-search-photo button[type=submit]"))
    assert products_in(browser, ".visual-results")[0] == chosen
    shoot("5-photo")

    # "More like this" keeps the state in the address; then the same in another colour.
    go(browser, lambda: press(browser, ".visual-results .visual-more"))
    assert f"product={chosen.pk}" in browser.current_url
    assert chosen.colour != "blue"
    one(browser, ".visual-modify input[name=modify]").send_keys("in blue")
    go(browser, lambda: press(browser, ".visual-modify button"))
    changed = products_in(browser, ".visual-results")
    assert changed[0].colour == "blue"
    assert chosen not in changed
    shoot("6-like-this-but")

    # Back is undo, and the modified search can be linked to.
    address = browser.current_url
    go(browser, browser.back)
    assert "modify=" not in browser.current_url
    browser.get(address)
    assert products_in(browser, ".visual-results") == changed


def test_journey__a_file_that_is_no_photo_is_refused_before_it_is_sent(
    shop: str, strict: webdriver.Chrome, shoot: Callable[[str], None], tmp_path: Path
) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("no photo")
    strict.get(f"{shop}/search/")

    press(strict, ".visual-search-photo summary")
    one(strict, "visual-search input[type=file]").send_keys(str(text))

    WebDriverWait(strict, WITHIN_SECONDS).until(
        lambda _driver: "not a photo" in one(strict, ".visual-search-status").text
    )
    assert not any(e.is_displayed() for e in all_of(strict, ".visual-search-preview"))
    shoot("refused")


def test_journey__words_photo_and_like_this_but_without_javascript(
    shop: str,
    without_javascript: webdriver.Chrome,
    shoot: Callable[[str], None],
    tmp_path: Path,
) -> None:
    browser = without_javascript
    chosen = Product.objects.exclude(colour="blue")[0]

    browser.get(shop)
    one(browser, "visual-search input[name=q]").send_keys("blue")
    go(browser, lambda: press(browser, ".visual-search-words button"))
    assert products_in(browser, ".visual-results")[0].colour == "blue"
    shoot("1-words")

    press(browser, ".visual-search-photo summary")
    one(browser, "visual-search input[type=file]").send_keys(str(photo_of(chosen, tmp_path)))
    go(browser, lambda: press(browser, ".visual-search-photo button[type=submit]"))
    assert "photo" in one(browser, "h1").text
    assert products_in(browser, ".visual-results")[0] == chosen
    shoot("2-photo")

    browser.get(f"{shop}{chosen.get_absolute_url()}")
    assert len(products_in(browser, ".visual-similar")) == 8
    one(browser, ".visual-modify input[name=modify]").send_keys("in blue")
    go(browser, lambda: press(browser, ".visual-modify button"))
    assert "modify=" in browser.current_url
    assert products_in(browser, ".visual-results")[0].colour == "blue"
    shoot("3-like-this-but")


HAND_OVER = """
const [name, text] = arguments;
const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
const data = new DataTransfer();
data.items.add(new File([bytes], "photo", {type: "image/png"}));
const how = {bubbles: true, cancelable: true};
const element = document.querySelector("visual-search");
const events = name === "paste"
  ? [new ClipboardEvent("paste", {clipboardData: data, ...how})]
  : ["dragover", "drop"].map((type) => new DragEvent(type, {dataTransfer: data, ...how}));
for (const event of events) element.dispatchEvent(event);
"""


@pytest.mark.parametrize("way", ["paste", "drop"])
def test_photo__pasted_or_dropped_on_a_small_screen(
    shop: str, strict: webdriver.Chrome, way: str, tmp_path: Path
) -> None:
    browser = strict
    metrics = {"width": 320, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(shop)
    header = one(browser, ".site-header").size["height"]
    photo = photo_of(Product.objects.all()[0], tmp_path).read_bytes()
    browser.execute_script(HAND_OVER, way, base64.b64encode(photo).decode())
    assert one(browser, ".visual-search-preview img")
    assert one(browser, ".site-header").size["height"] == header, "the panel pushes the page about"
    wide = "return document.documentElement.scrollWidth > document.documentElement.clientWidth"
    assert not browser.execute_script(wide), "the page is wider than the screen"
    go(browser, lambda: press(browser, ".visual-search-photo button[type=submit]"))
    assert "Results for your photo" in one(browser, "h1").text
    assert products_in(browser, ".visual-results")
