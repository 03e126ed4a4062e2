"""axe-core on every page of the shop, of the plugin's own templates and of our admin pages, light and dark.

The same pages must fit every screen from 320 to 1440 px, and be silent on the console.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import timezone
from pytest_django.live_server_helper import LiveServer
from selenium import webdriver
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

import visualsearch
from shop.models import Product
from tests.catalogue import BROKEN, make_product, photo
from tests.e2e.conftest import console_errors
from tests.e2e.steps import WITHIN_SECONDS, go, one, press, tab_to, type_keys
from visualsearch.models import Checkpoint, SearchEvent, TrainingRun, WordSearch
from visualsearch.queries import query_ids
from visualsearch.testing import COLOURS, fake_checkpoint
from visualsearch.upkeep import indexing, neighbours

AXE = (Path(__file__).parent / "vendor" / "axe.min.js").read_text()
RUN_AXE = """
const done = arguments[arguments.length - 1];
axe.run(document, {preload: false, resultTypes: ["violations"]})
  .then((found) => done(found.violations), (error) => done([{id: String(error), nodes: []}]));
"""
WIDTHS = (320, 375, 768, 1024, 1280, 1440)
REPORT = {
    "gallery": 100,
    "health": {"finite": True, "mean_cosine": 0.1},
    "lines": [
        {
            "section": section,
            "metric": metric,
            "system": system,
            "value": value,
            "low": value - 0.05,
            "high": value + 0.05,
            "queries": 100,
        }
        for section, metric, value in (
            ("similar", "kind P@10", 0.8),
            ("text", "title MRR", 0.5),
            ("composed", "colour R@10", 0.45),
        )
        for system in ("encoder", "raw pixels", "colour histogram", "image-only")
    ],
    "checks": [{"name": "finite vectors", "passed": True, "figure": 1.0, "bound": 1.0}],
}

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def shop(live_server: LiveServer) -> str:
    """A running shop: two checkpoints with neighbours, one product sold out, one photo broken."""
    kinds = ("Dresses", "T-shirts", "Trousers")
    for number, colour in enumerate(list(COLOURS) * 2):
        make_product(
            photo(colour, seed=number),
            photo(colour, seed=100 + number),
            name=f"{colour.title()} {kinds[number % 3].lower()[:-1]} {number}",
            category=kinds[number % 3],
            colour=colour,
            stock=number % 5,
            style_code=f"s{number // 3}",
            description="Cut to be worn, and drawn to be looked at.",
        )
    make_product(BROKEN, name="A photo that was cut short")
    for name in ("default-1", "default-2"):
        checkpoint = fake_checkpoint(name=name, folder=name, metrics=REPORT)
        indexing.index_pending()  # nothing is left to do for the second
        indexing.embed_checkpoint(checkpoint)
        neighbours.compute(checkpoint)
    return str(live_server.url)


@pytest.fixture
def plain_templates(tmp_path: Path, settings: Any) -> None:
    """The plugin's templates as they come, without those that the shop puts in their place."""
    own = tmp_path / "templates" / "shop"
    own.mkdir(parents=True)
    (own / "product_visual_card.html").write_text('{% include "visualsearch/card.html" %}')
    engine = settings.TEMPLATES[0]
    plugin = Path(visualsearch.__file__).parent / "templates"
    settings.TEMPLATES = [{**engine, "DIRS": [str(tmp_path / "templates"), str(plugin)]}]


def storefront() -> dict[str, str]:
    """Name -> address of the pages that visitors see."""
    product = Product.objects.filter(stock__gt=0)[0]
    sold_out = Product.objects.filter(stock=0)[0]
    return {
        "home": "/",
        "second page": "/?page=2",
        "nothing matches": "/?min_price=9999",
        "bad filter": "/?min_price=x",
        "product": product.get_absolute_url(),
        "sold out": sold_out.get_absolute_url(),
        "not found": "/products/none/",
        "search": "/search/",
        "words": "/search/?q=red",
        "filtered": "/search/?q=red&category=Dresses",
        "like this": f"/search/?product={product.pk}",
        "like this but": f"/search/?product={product.pk}&modify=in+blue",
        "no question": "/search/?q=",
        "too long": f"/search/?q={'x' * 300}",
    }


def admin_pages() -> dict[str, str]:
    """Name -> address of our pages in the admin."""
    base = "/admin/visualsearch"
    live = Checkpoint.objects.live()
    assert live is not None
    other = Checkpoint.objects.exclude(pk=live.pk)[0]
    now = timezone.now()
    history = [
        {"step": n, "epoch": 1 + n // 5, "epochs": 4, "loss": 4 / n, "text": 2 / n, "R@10": n / 20}
        for n in range(1, 18)
    ]
    done = TrainingRun.objects.create(
        state="succeeded",
        started_at=now,
        finished_at=now,
        history=history,
        timings={"collecting": 2.0, "training": 30.0},
        metrics={**REPORT, "live": {**REPORT, "checkpoint": "default-1"}},
    )
    failed = TrainingRun.objects.create(state="failed", error="The disk is full: make room.")
    running = TrainingRun.objects.create(
        state="running",
        stage="training",
        done=17,
        total=40,
        eta_seconds=75.0,
        heartbeat_at=now,
        started_at=now,
        history=history,
    )
    product = Product.objects.all()[0]
    for number in range(60):
        WordSearch.objects.create(
            words=f"a long question that nobody has an answer to {number}",
            query_id=query_ids.make(),
            hits=3,
            match=0.2,
        )
    return {
        "runs": f"{base}/trainingrun/",
        "retrain": f"{base}/trainingrun/add/",
        "run done": f"{base}/trainingrun/{done.pk}/change/",
        "run failed": f"{base}/trainingrun/{failed.pk}/change/",
        "run under way": f"{base}/trainingrun/{running.pk}/change/",
        "cancel": f"{base}/trainingrun/{running.pk}/cancel/",
        "checkpoints": f"{base}/checkpoint/",
        "checkpoint": f"{base}/checkpoint/{live.pk}/change/",
        "promote": f"{base}/checkpoint/{other.pk}/promote/",
        "roll back": f"{base}/checkpoint/rollback/",
        "changed neighbours": f"{base}/checkpoint/compare/",
        "inspector": f"{base}/checkpoint/inspect/?product={product.pk}",
        "inspector with words": f"{base}/checkpoint/inspect/?q=red",
        "map": f"{base}/checkpoint/map/?texts=1",
        "index health": f"{base}/indexentry/",
        "failed photos": f"{base}/indexentry/?status__exact=failed",
        "entry": f"{base}/indexentry/{product.pk}/change/",
        "poor answers": f"{base}/wordsearch/",
        "poor answers, none": f"{base}/wordsearch/?problem=nothing&days=7",
    }


def log_in(browser: webdriver.Chrome, shop: str) -> None:
    """Enter the admin by a session, without its form."""
    client = Client()
    client.force_login(User.objects.create_superuser("owner", "", "x"))
    browser.get(f"{shop}/search/")
    browser.add_cookie({"name": "sessionid", "value": client.cookies["sessionid"].value})


def in_theme(browser: webdriver.Chrome, theme: str) -> None:
    """As the system's setting says, with motion reduced: a colour in transition is no finding."""
    features = [
        {"name": "prefers-color-scheme", "value": theme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def findings(browser: webdriver.Chrome) -> list[str]:
    """What axe has to say about the page, one line for each element."""
    browser.execute_script(AXE)
    return [
        f"{rule['id']}: {json.dumps(node['target'])} {node.get('failureSummary', '')}"
        for rule in browser.execute_async_script(RUN_AXE)
        for node in rule["nodes"] or [{"target": []}]
    ]


def examine(browser: webdriver.Chrome, shop: str, pages: dict[str, str]) -> dict[str, list[str]]:
    """Findings, console errors and what is wider than the screen, by page; empty is good."""
    found: dict[str, list[str]] = {}
    for name, address in pages.items():
        browser.get(shop + address)
        wrong = findings(browser)
        wrong += too_wide(browser)
        # A page that is meant to be an error is reported by its status as well.
        wrong += [
            line for line in console_errors(browser) if "the server responded with" not in line
        ]
        if wrong:
            found[name] = wrong
    return found


def told(found: dict[str, list[str]]) -> str:
    """The findings as lines to read."""
    return "\n".join(f"{name}: {line}" for name, lines in found.items() for line in lines)


def too_wide(browser: webdriver.Chrome) -> list[str]:
    """The widths at which the page scrolls sideways, and by what."""
    wrong = []
    for width in WIDTHS:
        metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        overflow = browser.execute_script(
            "const root = document.documentElement;"
            "if (root.scrollWidth <= root.clientWidth) return '';"
            "const out = [...document.querySelectorAll('body *')].filter("
            "  (e) => e.getBoundingClientRect().right > root.clientWidth + 1);"
            "return `${root.scrollWidth} px: ` + out.slice(0, 6).map("
            "  (e) => e.tagName + '.' + e.className).join(', ');"
        )
        if overflow:
            wrong.append(f"wider than {width} px: {overflow}")
    browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    return wrong


@pytest.fixture(params=["light", "dark"])
def themed(strict: webdriver.Chrome, request: pytest.FixtureRequest) -> Iterator[webdriver.Chrome]:
    in_theme(strict, request.param)
    yield strict


def test_axe__every_page_of_the_shop(shop: str, themed: webdriver.Chrome, tmp_path: Path) -> None:
    found = examine(themed, shop, storefront())
    assert not found, told(found)

    # The photo panel, open and with a photo in it; then what it finds.
    file = tmp_path / "photo.png"
    file.write_bytes(photo("red", seed=1))
    themed.get(f"{shop}/search/")
    press(themed, ".visual-search-photo summary")
    one(themed, "visual-search input[type=file]").send_keys(str(file))
    one(themed, ".visual-search-preview img")
    press(themed, "[data-crop=smaller]")
    assert findings(themed) + too_wide(themed) == []
    go(themed, lambda: press(themed, ".visual-search-photo button[type=submit]"))
    assert findings(themed) + too_wide(themed) == []


def test_axe__the_plugins_own_templates(
    shop: str, themed: webdriver.Chrome, plain_templates: None
) -> None:
    pages = {name: url for name, url in storefront().items() if url.startswith("/search/")}
    themed.get(shop + pages["words"])
    assert "visual-page" in (one(themed, "body").get_attribute("class") or ""), "not its own base"

    found = examine(themed, shop, pages)
    assert not found, told(found)


def test_axe__every_admin_page_of_ours(shop: str, themed: webdriver.Chrome) -> None:
    log_in(themed, shop)

    found = examine(themed, shop, admin_pages())
    assert not found, told(found)


def test_keyboard__from_the_grid_to_like_this_but_without_a_mouse(
    shop: str, strict: webdriver.Chrome, tmp_path: Path
) -> None:
    browser = strict
    browser.get(shop)

    # The first thing that Tab reaches jumps over the header.
    assert tab_to(browser, ".skip", most=1).text == "Skip to content"

    # Words; then the focus is on the results.
    tab_to(browser, "visual-search input[name=q]")
    go(browser, lambda: type_keys(browser, "blue", Keys.ENTER))
    assert focused(browser) == "visual-results-title"

    # "More like this" on the first hit, and what should be different about it.
    go(browser, lambda: (tab_to(browser, ".visual-more"), type_keys(browser, Keys.ENTER)))
    assert "product=" in browser.current_url
    tab_to(browser, ".visual-modify input[name=modify]")
    go(browser, lambda: type_keys(browser, "in red", Keys.ENTER))
    assert "modify=in+red" in browser.current_url
    assert focused(browser) == "visual-results-title"
    # The chips stand before the results, where the focus is.
    tab_to(browser, ".visual-chip-remove", back=True)
    go(browser, lambda: type_keys(browser, Keys.ENTER))
    assert "modify=" not in browser.current_url

    # A photo, cropped by buttons; only the system's own file dialogue is left out.
    tab_to(browser, ".visual-search-photo summary")
    type_keys(browser, Keys.ENTER)
    file = tmp_path / "photo.png"
    file.write_bytes(photo("green", seed=1))
    tab_to(browser, "visual-search input[type=file]").send_keys(str(file))
    one(browser, ".visual-search-preview img")
    tab_to(browser, "[data-crop=smaller]")
    type_keys(browser, Keys.SPACE, Keys.SPACE)
    status = WebDriverWait(browser, WITHIN_SECONDS).until(
        lambda _: "80 %" in (text := one(browser, ".visual-search-status").text) and text
    )
    assert "80 % of the width" in status
    go(
        browser,
        lambda: (
            tab_to(browser, ".visual-search-photo button[type=submit]"),
            type_keys(browser, Keys.ENTER),
        ),
    )
    assert "Results for your photo" in one(browser, "h1").text
    assert focused(browser) == "visual-results-title"


def focused(browser: webdriver.Chrome) -> str:
    """The id of what has the focus."""
    wait = WebDriverWait(browser, WITHIN_SECONDS)
    return str(wait.until(lambda _: browser.switch_to.active_element.get_attribute("id") or ""))


def test_photo__is_shown_again_beside_its_results_and_forgotten_on_the_next_page(
    shop: str, strict: webdriver.Chrome, tmp_path: Path
) -> None:
    browser = strict
    file = tmp_path / "photo.png"
    file.write_bytes(photo("green", seed=1))
    browser.get(f"{shop}/search/")
    press(browser, ".visual-search-photo summary")
    one(browser, "visual-search input[type=file]").send_keys(str(file))
    one(browser, ".visual-search-preview img")

    go(browser, lambda: press(browser, ".visual-search-photo button[type=submit]"))
    press(browser, ".visual-search-photo summary")
    assert one(browser, ".visual-search-preview img").is_displayed()
    files = "return document.querySelector('visual-search input[type=file]').files.length"
    assert browser.execute_script(files) == 1

    browser.get(f"{shop}/search/")
    assert browser.execute_script(files) == 0
    assert browser.execute_script("return sessionStorage.getItem('visual-search-photo')") is None


def test_photo__survives_an_error_of_the_server(
    shop: str, strict: webdriver.Chrome, tmp_path: Path
) -> None:
    Checkpoint.objects.update(state=Checkpoint.State.RETIRED)  # nothing can look at a photo now
    browser = strict
    file = tmp_path / "photo.png"
    file.write_bytes(photo("green", seed=1))
    browser.get(f"{shop}/search/")
    press(browser, ".visual-search-photo summary")
    one(browser, "visual-search input[type=file]").send_keys(str(file))
    one(browser, ".visual-search-preview img")
    go(browser, lambda: press(browser, ".visual-search-photo button[type=submit]"))

    assert "cannot be searched for yet" in one(browser, ".visual-error").text
    assert one(browser, ".visual-search-preview img").is_displayed()
    assert [line for line in console_errors(browser) if "503" not in line] == []


def test_crop__dragging_and_buttons_send_that_part_alone(
    shop: str, strict: webdriver.Chrome, tmp_path: Path
) -> None:
    browser = strict
    file = tmp_path / "photo.png"
    file.write_bytes(photo("green", seed=1, size=200))
    browser.get(f"{shop}/search/")
    press(browser, ".visual-search-photo summary")
    one(browser, "visual-search input[type=file]").send_keys(str(file))
    image = one(browser, ".visual-crop img")
    wait = WebDriverWait(browser, WITHIN_SECONDS)
    wait.until(lambda _: browser.execute_script("return arguments[0].naturalWidth", image) == 200)

    drag: Callable[[str], Any] = browser.execute_script
    drag("""
      const stage = document.querySelector(".visual-crop");
      const frame = stage.querySelector("img").getBoundingClientRect();
      stage.setPointerCapture = () => {};
      const at = (type, x, y) => stage.dispatchEvent(new PointerEvent(type, {
        bubbles: true, cancelable: true, button: 0, pointerId: 1,
        clientX: frame.left + x * frame.width, clientY: frame.top + y * frame.height}));
      at("pointerdown", 0, 0); at("pointermove", 0.5, 0.25); at("pointerup", 0.5, 0.25);
    """)

    size = """
      const done = arguments[arguments.length - 1];
      const file = document.querySelector("visual-search input[type=file]").files[0];
      createImageBitmap(file).then((picture) => done([picture.width, picture.height]));
    """
    assert wait.until(lambda _: browser.execute_async_script(size) == [100, 50])
    press(browser, "[data-crop=whole]")
    assert wait.until(lambda _: browser.execute_async_script(size) == [200, 200])


def test_click__on_a_hit_is_told_to_the_shop_alone(shop: str, strict: webdriver.Chrome) -> None:
    browser = strict
    browser.get(f"{shop}/search/?q=red")
    press(browser, ".visual-results h2")
    go(browser, lambda: press(browser, ".visual-grid .visual-steer a"))  # no product's page
    browser.get(f"{shop}/search/?q=red")
    query = one(browser, ".visual-grid").get_attribute("data-query")

    go(browser, lambda: press(browser, ".visual-grid .card a"))

    wait = WebDriverWait(browser, WITHIN_SECONDS)
    told = wait.until(lambda _: list(SearchEvent.objects.values_list("query_id", "position")))
    assert told == [(query, 1)]
    assert WordSearch.objects.filter(words="red").count() == 2


def test_script__is_small_and_asks_nobody() -> None:
    script = (
        Path(visualsearch.__file__).parent / "static/visualsearch/visualsearch.js"
    ).read_text()

    assert len(script.encode()) < 30_000
    assert "fetch(" not in script and "XMLHttpRequest" not in script and "http" not in script
