"""The dialog of orders in a real browser: by keyboard, and by name."""

from __future__ import annotations

import pytest
from selenium.webdriver.common.keys import Keys

from tests.acceptance.cli import Installation
from tests.acceptance.webprocess import web
from tests.browser.chromium import browser, require
from tests.store import steps
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: How long what a page shows may be behind, seconds, on a busy machine.
BEHIND = 15
BUTTON = f"pause-{steps.ENDPOINT}"


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


def test_enter_twice_is_one_order(shown):
    """The second comes before the first is answered."""
    inst, driver, base = shown
    driver.get(f"{base}/endpoints")
    driver.execute_script("document.getElementById(arguments[0]).click()", BUTTON)
    driver.find_element("css selector", "#ask [name=seconds]").send_keys("60", Keys.ENTER, Keys.ENTER)
    wait_until(lambda: not driver.execute_script("return document.getElementById('ask').open"), timeout=BEHIND)

    assert [one.what for one in inst.store.control.changes() if one.what == "pause"] == ["pause"]
    inst.rlm("endpoint", "resume", steps.ENDPOINT)
