"""A headless Chromium for the browser journeys; it fails, and does not skip, when there is none."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

NOTE_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
  const seen = JSON.parse(sessionStorage.getItem("violations") || "[]");
  seen.push(`${event.effectiveDirective} ${event.blockedURI} on ${location.href}`);
  sessionStorage.setItem("violations", JSON.stringify(seen));
});
"""
SCRIPT_SECONDS = 180
"""axe needs seconds for a large page, and a busy machine many times that."""
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


def start_browser(profile: Path, *, width: int = 1280, height: int = 900) -> webdriver.Chrome:
    """The system's own Chromium: nothing is downloaded, and it talks to this machine only."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.fail(
            "The browser tests need Chromium and chromedriver: apt-get install chromium chromium-driver",
            pytrace=False,
        )
    options = Options()
    options.binary_location = browser
    for argument in (
        "--headless=new",
        "--no-sandbox",
        "--disable-dev-shm-usage",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--no-first-run",
        "--no-proxy-server",
        # Anything but this machine does not resolve: a page that asks elsewhere fails its test.
        "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1, EXCLUDE localhost",
        f"--window-size={width},{height}",
        f"--user-data-dir={profile}",
    ):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(executable_path=driver))
    started.set_script_timeout(SCRIPT_SECONDS)
    return started


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[webdriver.Chrome]:
    """A fresh browser; at the end no page may have written an error to its console."""
    driver = start_browser(tmp_path / "profile")
    try:
        yield driver
        assert console_errors(driver) == []
    finally:
        driver.quit()


def console_errors(driver: webdriver.Chrome) -> list[str]:
    """What the pages have complained about since the last call."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


@pytest.fixture
def screenshots(tmp_path: Path) -> Path:
    folder = tmp_path / "screenshots"
    folder.mkdir()
    return folder


@pytest.fixture
def shoot(
    browser: webdriver.Chrome, screenshots: Path, request: pytest.FixtureRequest
) -> Callable[[str], None]:
    """Save what the browser shows; into the folder of the variable SCREENSHOTS if there is one."""
    folder = Path(os.environ.get("SCREENSHOTS", screenshots))
    folder.mkdir(parents=True, exist_ok=True)
    prefix = request.node.name.partition("__")[2]

    def save(name: str) -> None:
        assert browser.save_screenshot(str(folder / f"{prefix}-{name}.png"))

    return save


@pytest.fixture
def strict(browser: webdriver.Chrome) -> Iterator[webdriver.Chrome]:
    """The browser; at the end no page may have tried what its policy forbids."""
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": NOTE_VIOLATIONS})
    yield browser
    assert browser.execute_script("return sessionStorage.getItem('violations')") is None


@pytest.fixture
def without_javascript(browser: webdriver.Chrome) -> webdriver.Chrome:
    """The browser with scripts switched off, as in its settings."""
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    browser.get("data:text/html,<title>off</title><script>document.title='on'</script>")
    assert browser.title == "off"
    return browser
