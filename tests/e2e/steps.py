"""What a visitor does in a browser, step by step: look, press, go, type with the keyboard alone."""

from __future__ import annotations

from collections.abc import Callable

from selenium import webdriver
from selenium.common.exceptions import (
    ElementClickInterceptedException,
    StaleElementReferenceException,
    WebDriverException,
)
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

WITHIN_SECONDS = 30


def all_of(browser: webdriver.Chrome, selector: str) -> list[WebElement]:
    return browser.find_elements(By.CSS_SELECTOR, selector)


def one(browser: webdriver.Chrome, selector: str) -> WebElement:
    """The first element of `selector` that can be seen, as soon as there is one."""

    def visible(_driver: webdriver.Chrome) -> WebElement | None:
        return next((e for e in all_of(browser, selector) if e.is_displayed()), None)

    # An element can go away with its page between being found and being looked at.
    wait = WebDriverWait(
        browser, WITHIN_SECONDS, ignored_exceptions=[StaleElementReferenceException]
    )
    return wait.until(visible, f"nothing to see of {selector!r} on {browser.current_url}")


def press(browser: webdriver.Chrome, selector: str) -> None:
    """Click, as soon as the page has scrolled there and nothing is in front."""

    def click(_driver: webdriver.Chrome) -> bool:
        one(browser, selector).click()
        return True

    wait = WebDriverWait(
        browser, WITHIN_SECONDS, ignored_exceptions=[ElementClickInterceptedException]
    )
    wait.until(click, f"{selector!r} cannot be clicked")


def go(browser: webdriver.Chrome, action: Callable[[], None]) -> None:
    """Do something that leads to another page, and wait until that is there to its end."""
    before = one(browser, "html")
    action()
    wait = WebDriverWait(browser, WITHIN_SECONDS)
    wait.until(lambda _driver: _is_gone(before), "no new page came")
    one(browser, ".site-footer, #container, .visual-page")
    wait.until(lambda _driver: browser.execute_script("return document.readyState") == "complete")


def _is_gone(element: WebElement) -> bool:
    """Whether its page has gone; asked while it goes, Chrome says so in words of its own."""
    try:
        element.is_enabled()
    except StaleElementReferenceException:
        return True
    except WebDriverException as error:
        if "does not belong to the document" in str(error.msg):
            return True
        raise
    return False


def wait_for_images(browser: webdriver.Chrome) -> None:
    """Wait until every photo that the page shows at once is there."""
    loaded = (
        "return [...document.images].filter(i => i.loading !== 'lazy' && !i.closest('[hidden]'))"
        ".every(i => i.complete && i.naturalWidth > 0)"
    )
    wait = WebDriverWait(browser, WITHIN_SECONDS)
    wait.until(lambda _driver: browser.execute_script(loaded), "some photos did not load")


def type_keys(browser: webdriver.Chrome, *keys: str) -> None:
    """Type into whatever has the focus."""
    ActionChains(browser).send_keys(*keys).perform()


def tab_to(
    browser: webdriver.Chrome, selector: str, *, most: int = 80, back: bool = False
) -> WebElement:
    """Press Tab, or Shift and Tab, until what has the focus matches; fail if nothing ever does."""
    passed = []
    for _ in range(most):
        press_tab = ActionChains(browser)
        if back:
            press_tab.key_down(Keys.SHIFT).send_keys(Keys.TAB).key_up(Keys.SHIFT).perform()
        else:
            press_tab.send_keys(Keys.TAB).perform()
        active = browser.switch_to.active_element
        if browser.execute_script("return arguments[0].matches(arguments[1])", active, selector):
            return active
        passed.append(active.tag_name + " " + (active.text or active.get_attribute("name") or ""))
    raise AssertionError(f"Tab does not lead to {selector!r}; it passes {passed}")
