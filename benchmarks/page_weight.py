"""What the widget adds to a product page in a browser: bytes, requests, scripts, layout shift.

`python -m benchmarks.page_weight` shows the page to a headless Chromium with an empty cache, on a
telephone and on a desktop, with the widget and with its template left empty, and scrolls to its end.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks import page_stack, record

SCREENS = {"telephone": (390, 844), "desktop": (1280, 900)}
STATIC = Path(__file__).resolve().parent.parent / "visualsearch" / "static" / "visualsearch"
MEASURE = """
const done = arguments[arguments.length - 1];
let shift = 0, largest = 0;
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) if (!entry.hadRecentInput) shift += entry.value;
}).observe({type: "layout-shift", buffered: true});
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) largest = entry.startTime;
}).observe({type: "largest-contentful-paint", buffered: true});
setTimeout(() => {
  const parts = performance.getEntriesByType("resource").filter(({name}) => !name.endsWith("/icon.svg"));
  const [page] = performance.getEntriesByType("navigation");
  const all = [page, ...parts];
  const sum = (list) => list.reduce((bytes, part) => bytes + part.encodedBodySize, 0);
  const paint = performance.getEntriesByName("first-contentful-paint")[0];
  done({
    requests: all.length,
    bytes: sum(all),
    html_bytes: page.encodedBodySize,
    script_bytes: sum(parts.filter(({name}) => name.endsWith(".js"))),
    style_bytes: sum(parts.filter(({name}) => name.endsWith(".css"))),
    elsewhere: parts.filter(({name}) => !name.startsWith(location.origin)).length,
    layout_shift: shift,
    first_paint_ms: paint ? paint.startTime : null,
    largest_paint_ms: largest,
  });
}, 500);
"""


def look(browser: Any, address: str, screen: tuple[int, int]) -> dict[str, Any]:
    """The figures of one visit, by somebody who scrolls to the end of the page."""
    from tests.e2e.steps import wait_for_images

    width, height = screen
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
    browser.get(address)
    browser.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    wait_for_images(browser)
    figures: dict[str, Any] = browser.execute_async_script(MEASURE)
    figures["widget_cards"] = browser.execute_script(
        "return document.querySelectorAll('.visual-similar li').length"
    )
    return figures


def middle(visits: list[dict[str, Any]]) -> dict[str, Any]:
    """The median of each figure."""
    return {
        name: round(statistics.median(visit[name] or 0 for visit in visits), 4)
        for name in visits[0]
    }


def run(*, times: int) -> dict[str, Any]:
    """Measure; results/page_weight.json."""
    from tests.e2e.conftest import start_browser

    found: dict[str, Any] = {screen: {} for screen in SCREENS}
    with contextlib.ExitStack() as at_work:
        services, path = at_work.enter_context(page_stack.start())
        whole = at_work.enter_context(services.web(settings=page_stack.SETTINGS))
        bare = at_work.enter_context(services.web(settings=page_stack.SETTINGS, WIDGET="0"))
        profile = at_work.enter_context(tempfile.TemporaryDirectory())
        browser = start_browser(Path(profile))
        try:
            pages = {"with the widget": whole + path, "without": bare + path}
            for address in pages.values():
                look(browser, address, (390, 844))  # templates and connections are there
            for screen, size in SCREENS.items():
                visits: dict[str, list[dict[str, Any]]] = {name: [] for name in pages}
                for _ in range(times):
                    for name, address in pages.items():  # in turns
                        visits[name].append(look(browser, address, size))
                found[screen] = {name: middle(seen) for name, seen in visits.items()}
                with_it, without = found[screen].values()
                found[screen]["added"] = {
                    name: round(with_it[name] - without[name], 4)
                    for name in ("requests", "bytes", "html_bytes", "script_bytes",
                                 "style_bytes", "layout_shift")
                }  # fmt: skip
                print(screen, found[screen]["added"], flush=True)
        finally:
            browser.quit()
    files = {name: (STATIC / name).read_bytes() for name in ("visualsearch.js", "visualsearch.css")}
    figures = {
        "visits_each": times,
        "files": {
            name: {"bytes": len(data), "gzip_bytes": len(gzip.compress(data))}
            for name, data in files.items()
        },
        "page": found,
    }
    print(f"written to {record.write('page_weight', figures)}")
    return figures


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=5, help="visits of each page on each screen")
    run(**vars(parser.parse_args()))
