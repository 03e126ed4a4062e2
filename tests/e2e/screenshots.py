"""`make screenshots`: the pictures of the README and the documents, from a demo that really trains.

python -m tests.e2e.screenshots            PRODUCTS=…   size of the drawn catalogue; the second run goes on from the first
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By

from shop import demo
from tests.e2e.conftest import start_browser
from tests.e2e.steps import all_of, go, one, press, wait_for_images

ROOT = Path(__file__).resolve().parents[2]
IMAGES = ROOT / "docs" / "images"
PRODUCTS = 400
SEARCHABLE_SECONDS = 3600.0
SIZE = (1280, 860)
WITHOUT_GOOD_ANSWERS = ("umbrella", "velvet dinner jacket", "wool scarf under 2", "umbrella")
"""What the drawn catalogue does not have, for the page about such searches."""
QUALITY = 80
"""Of the JPEGs: photos at a quarter of a PNG's bytes, and writing that is still sharp."""


@contextlib.contextmanager
def running_demo() -> Iterator[str]:
    """`python -m shop.demo` with data of its own, searchable; its address."""
    port = demo.find_port(None)
    kept = {"RUN_DIR": str(ROOT / ".run" / "pictures"), "DATA_DIR": str(ROOT / "var" / "pictures")}
    environment = os.environ | kept | {"PORT": str(port)}
    environment.setdefault("PRODUCTS", str(PRODUCTS))
    process = subprocess.Popen([sys.executable, "-m", "shop.demo"], cwd=ROOT, env=environment)
    url = f"http://127.0.0.1:{port}"
    try:
        print(f"Waiting until {url} has drawn, trained and embedded its catalogue …", flush=True)
        wait_until(lambda: is_searchable(url), process)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def is_searchable(url: str) -> bool:
    # Words under a filter are not counted among what shoppers search for, which is a picture too.
    query = urllib.parse.urlencode({"q": "red dress", "limit": 5, "in_stock": "true"})
    try:
        with urllib.request.urlopen(f"{url}/api/search/?{query}", timeout=10) as response:
            answer = json.load(response)
    except OSError:
        return False
    return not answer["degraded"] and len(answer["hits"]) == 5


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[bytes] | None = None) -> Any:
    deadline = time.monotonic() + SEARCHABLE_SECONDS
    while not (value := condition()):
        if process is not None and process.poll() is not None:
            raise SystemExit(
                f"The demo ended with status {process.returncode}; its output says why."
            )
        if time.monotonic() > deadline:
            raise SystemExit(f"Not within {SEARCHABLE_SECONDS:.0f} s: {condition}")
        time.sleep(1.0)
    return value


class Camera:
    """Saves what the browser shows to docs/images."""

    def __init__(self, browser: webdriver.Chrome) -> None:
        self.browser = browser

    def theme(self, name: str) -> None:
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def screen(self, width: int, height: int) -> None:
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def shoot(self, name: str, *, part: str = "") -> None:
        """The window as `name`.jpg, scrolled to the first element of `part`."""
        move = "document.querySelector(arguments[0])?.scrollIntoView({block: 'start', behavior: 'instant'})"
        self.browser.execute_script(move if part else "scrollTo(0, 0)", part)
        wait_for_images(self.browser)
        time.sleep(0.5)  # for transitions
        picture = Image.open(io.BytesIO(self.browser.get_screenshot_as_png())).convert("RGB")
        IMAGES.mkdir(parents=True, exist_ok=True)
        path = IMAGES / f"{name}.jpg"
        picture.save(path, quality=QUALITY, optimize=True, subsampling=0)
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size // 1024} KB", flush=True)


def take_storefront(camera: Camera, url: str) -> None:
    """What visitors see: grid, product, words, a photo, "like this but…", a telephone."""
    browser = camera.browser
    for theme in ("light", "dark"):
        camera.theme(theme)
        browser.get(url)
        camera.shoot(f"home-{theme}")
    camera.theme("light")
    browser.get(f"{url}/?category=Dresses&colour=red")
    if not all_of(browser, ".grid .card a"):
        browser.get(f"{url}/?category=Dresses")
    go(browser, lambda: press(browser, ".grid .card a"))
    product = browser.current_url
    camera.screen(SIZE[0], 1360)
    camera.shoot("product")
    camera.theme("dark")
    camera.shoot("product-dark")
    camera.theme("light")
    camera.screen(*SIZE)
    for words in WITHOUT_GOOD_ANSWERS:
        browser.get(f"{url}/search/?{urllib.parse.urlencode({'q': words})}")
    browser.get(f"{url}/search/?q=striped+shirt+with+long+sleeves")
    camera.shoot("text-search")
    browser.get(product)
    if suggestions := all_of(browser, ".visual-suggestions a"):
        # Few hundred products hold one dress of a kind, and plain ones of most.
        plain = (link for link in suggestions if "plain" in link.text)
        go(browser, next(plain, suggestions[0]).click)
    else:  # a checkpoint of an earlier version does not say what it has learned
        one(browser, ".visual-modify input[name=modify]").send_keys("in blue")
        go(browser, lambda: press(browser, ".visual-modify button"))
    camera.shoot("like-this-but")
    camera.theme("dark")
    camera.shoot("like-this-but-dark")
    camera.theme("light")
    take_photo_search(camera, url, product)
    camera.screen(390, 844)
    browser.get(product)
    camera.shoot("telephone")
    camera.screen(*SIZE)


def take_photo_search(camera: Camera, url: str, product: str) -> None:
    """A photo of the product, its upper part marked, and what is found."""
    browser = camera.browser
    browser.get(product)
    address = one(browser, ".gallery img").get_attribute("src")
    assert address is not None
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        with urllib.request.urlopen(address, timeout=10) as response:
            Image.open(response).convert("RGB").save(file, "PNG")
        file.flush()
        browser.get(f"{url}/search/")
        press(browser, ".visual-search-photo summary")
        one(browser, "visual-search input[type=file]").send_keys(file.name)
        one(browser, ".visual-search-preview img")
        press(browser, "[data-crop=smaller]")
        time.sleep(1)
        camera.shoot("photo-chosen")
        go(browser, lambda: press(browser, ".visual-search-photo button[type=submit]"))
        press(browser, ".visual-search-photo summary")
        camera.screen(SIZE[0], 1100)
        camera.shoot("photo-search")
        camera.screen(*SIZE)


def take_admin(camera: Camera, url: str, *, epochs: int | None) -> None:
    """What the shop's owner sees; a second run is started and waited for.

    A checkpoint that the gate refuses, as it does after too few epochs, is promoted by the override:
    two checkpoints with embeddings are needed to have something to compare.
    """
    browser, base = camera.browser, f"{url}/admin/visualsearch"
    browser.get(f"{url}/admin/login/")
    one(browser, "#id_username").send_keys(demo.LOGIN)
    one(browser, "#id_password").send_keys(demo.LOGIN)
    go(browser, lambda: press(browser, "[type=submit]"))
    browser.get(f"{base}/trainingrun/add/")
    camera.shoot("retrain")
    if open_runs := all_of(browser, ".visualsearch-open-run a"):
        go(browser, open_runs[0].click)
    else:
        start_run(browser, epochs=epochs)
    print("Waiting for the curves of the second run …", flush=True)
    wait_until(lambda: is_half_trained(browser) or not is_open(browser))
    camera.shoot("retrain-in-progress")
    camera.theme("dark")
    camera.shoot("retrain-in-progress-dark")
    camera.theme("light")
    print("Waiting for its end …", flush=True)
    wait_until(lambda: not is_open(browser))
    take_checkpoints(camera, base)


def start_run(browser: webdriver.Chrome, *, epochs: int | None) -> None:
    seed = one(browser, "#id_seed")
    seed.clear()
    seed.send_keys("1")
    if epochs is not None:
        field = one(browser, "#id_epochs")
        field.clear()  # the setting's number may stand there
        field.send_keys(str(epochs))
    go(browser, lambda: press(browser, "[name=_save]"))


def take_checkpoints(camera: Camera, base: str) -> None:
    """The checkpoints, two of them compared, the inspector, the map, index health, poor answers."""
    browser = camera.browser
    browser.get(f"{base}/checkpoint/")
    if "refused" in one(browser, "#result_list tbody tr").text:
        go(browser, lambda: press(browser, "#result_list tbody th a"))
        go(browser, lambda: press(browser, '.object-tools a[href$="/promote/"]'))
        press(browser, "[name=override]")
        one(browser, "[name=reason]").send_keys("To have something to compare in a picture.")
        go(browser, lambda: press(browser, "#content form [type=submit]"))
        wait_until(lambda: not is_open(browser))
    browser.get(f"{base}/checkpoint/")
    camera.shoot("checkpoints")
    go(browser, lambda: press(browser, "#result_list tbody th a"))
    camera.shoot("checkpoint")
    browser.get(f"{base}/checkpoint/compare/")
    camera.shoot("changed-neighbours")
    inspect = browser.find_elements(By.CSS_SELECTOR, ".visualsearch-change h2 a")
    browser.get(
        inspect[0].get_attribute("href") or "" if inspect else f"{base}/checkpoint/inspect/?q=red"
    )
    camera.shoot("inspector")
    browser.get(f"{base}/checkpoint/map/?texts=1")
    camera.screen(SIZE[0], 1020)
    camera.shoot("map")
    camera.theme("dark")
    camera.shoot("map-dark")
    camera.theme("light")
    camera.screen(*SIZE)
    browser.get(f"{base}/indexentry/")
    camera.shoot("index-health")
    browser.get(f"{base}/wordsearch/")
    camera.shoot("poor-answers")


def is_half_trained(browser: webdriver.Chrome) -> bool:
    """Whether there are curves to look at: those of at least half the training."""
    try:
        bars = all_of(browser, ".visualsearch-run progress[max]")
        if not bars or not all_of(browser, ".visualsearch-run polyline"):
            return False
        done, total = (float(bars[0].get_attribute(name) or 0) for name in ("value", "max"))
    except StaleElementReferenceException:  # the page has renewed itself meanwhile
        return False
    return done >= total / 2


def is_open(browser: webdriver.Chrome) -> bool:
    """Whether the run whose page is shown is still under way; the page renews itself."""
    return bool(all_of(browser, '[data-open="yes"]'))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, help="of the second run; the recipe's own without")
    parser.add_argument(
        "--url", help="of a demo that runs and can be searched, instead of a new one"
    )
    parser.add_argument("--only", choices=("storefront", "admin"), help="not the other pictures")
    options = parser.parse_args()
    # Ended by a signal, it still ends the demo that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    shop = contextlib.nullcontext(options.url) if options.url else running_demo()
    with shop as url, tempfile.TemporaryDirectory() as profile:
        browser = start_browser(Path(profile), width=SIZE[0], height=SIZE[1])
        try:
            camera = Camera(browser)
            browser.execute_cdp_cmd("Emulation.setScrollbarsHidden", {"hidden": True})
            camera.screen(*SIZE)
            if options.only != "admin":
                take_storefront(camera, url)
            if options.only != "storefront":
                take_admin(camera, url, epochs=options.epochs)
        finally:
            browser.quit()
    return 0


if __name__ == "__main__":
    sys.exit(main())
