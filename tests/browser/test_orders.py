"""The dialog of orders in a real browser: by keyboard, and by name."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from rlm.core.item import Reason, encode_letter
from tests.acceptance.cli import Installation
from tests.acceptance.webprocess import web
from tests.browser.chromium import browser, require
from tests.store import steps
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: How long what a page shows may be behind, seconds, on a busy machine.
BEHIND = 15
BUTTON = f"pause-{steps.ENDPOINT}"
NAMES = """
    return [...document.querySelectorAll("#main button[data-post]")].map((one) => one.ariaLabel || one.textContent)
"""
#: In one step, because an update of the page may replace the button.
DROP = "document.querySelector('#letters button.danger').click()"


@pytest.fixture(scope="module")
def shown(tmp_path_factory, valkey_only_url):
    """An installation, a browser, and the address of its pages."""
    require()
    place = tmp_path_factory.mktemp("orders")
    with (
        Installation(place, valkey_only_url) as inst,
        web(place, valkey_only_url, "--config", str(inst.config)) as (_, port),
        browser() as driver,
    ):
        yield inst, driver, f"http://127.0.0.1:{port}"


def focused(driver):
    return driver.execute_script("return document.activeElement.id || document.activeElement.tagName")


def test_the_focus_returns_to_a_button_that_was_replaced(shown):
    """Who closes a dialog goes on where they were, though the page was updated meanwhile."""
    inst, driver, base = shown
    driver.get(f"{base}/endpoints")
    driver.execute_script("document.getElementById(arguments[0]).focus()", BUTTON)
    driver.execute_script("window.opener = document.activeElement")
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    inst.rlm("endpoint", "limit", steps.ENDPOINT, "7/minute")
    wait_until(lambda: not driver.execute_script("return window.opener.isConnected"), timeout=BEHIND)

    ActionChains(driver).send_keys(Keys.ESCAPE).perform()

    wait_until(lambda: focused(driver) == BUTTON or None, timeout=BEHIND, message="the button has the focus")


def test_enter_twice_is_one_order(shown):
    """The second comes before the first is answered."""
    inst, driver, base = shown
    driver.get(f"{base}/endpoints")
    driver.execute_script("document.getElementById(arguments[0]).click()", BUTTON)
    driver.find_element("css selector", "#ask [name=reason]").send_keys("twice", Keys.ENTER, Keys.ENTER)
    wait_until(lambda: not driver.execute_script("return document.getElementById('ask').open"), timeout=BEHIND)

    assert [one.what for one in inst.store.changes.newest() if one.reason == "twice"] == ["pause"]
    inst.rlm("endpoint", "resume", steps.ENDPOINT)


def test_each_button_has_a_name_of_its_own_and_each_order_a_reason(shown):
    """A screen reader lists buttons by their names alone."""
    inst, driver, base = shown
    for number in (1, 2):
        item, event = steps.item(f"i{number}", steps.TYPE), steps.event_id(number)
        raw = encode_letter(item, Reason.REJECTED, "HTTP 422: no", failed_at=number, run_id="r", event=event)
        inst.store.client.lpush(inst.store.keys.failed, raw)

    for path in ("/", "/endpoints", "/failures"):
        driver.get(base + path)
        names = driver.execute_script(NAMES)
        assert names
        assert len(set(names)) == len(names), path
        assert not driver.find_elements("css selector", "button[data-post]:not([data-fields~=reason])"), path
    driver.execute_script(DROP)
    submit = driver.find_element("css selector", "#ask [type=submit]")
    wait_until(submit.is_enabled, timeout=BEHIND, message="it is counted")
    driver.find_element("css selector", "#ask [name=reason]").send_keys("of no use", Keys.ENTER)
    wait_until(lambda: inst.store.letters.count() == 1 or None, timeout=BEHIND, message="it is dropped")
