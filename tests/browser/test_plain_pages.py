"""What a page shows without JavaScript, and how its times of day read."""

from __future__ import annotations

import re

import pytest

from tests.acceptance.webprocess import scheduler_alive, web
from tests.browser.chromium import browser, require
from tests.conftest import running_server

pytestmark = pytest.mark.rest

#: The parameters of the browser's commands that switch scripts off, and its time zone to another.
SCRIPTS, ZONE = "Emulation.setScriptExecutionDisabled", "Emulation.setTimezoneOverride"


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """A browser, and the address of a dashboard between two runs."""
    require()
    place = tmp_path_factory.mktemp("web")
    (place / "data").mkdir()
    with (
        browser() as driver,
        running_server("valkey", place / "data") as url,
        scheduler_alive(place, url),
        web(place, url) as (_, port),
    ):
        yield driver, f"http://127.0.0.1:{port}/"
        driver.get("about:blank")  # before the server is gone


def test_without_the_script_a_page_claims_nothing_that_needs_it(seen):
    """It says when it was so, times are times of day, and there are no buttons that would do nothing."""
    driver, address = seen
    driver.execute_cdp_cmd(SCRIPTS, {"value": True})
    try:
        driver.get(address)
        page = driver.find_element("tag name", "body").text
        buttons = [one.is_displayed() for one in driver.find_elements("css selector", "[data-post]")]
    finally:
        driver.execute_cdp_cmd(SCRIPTS, {"value": False})

    assert re.search(r"This is what was so at \d\d:\d\d:\d\d UTC\.", page)
    assert re.search(r"\d\d:\d\d:\d\d UTC\s+the next tick", page)
    assert buttons == [False]
    driver.get(address)
    assert re.search(r"\d:\d\d\s+until the next tick", driver.find_element("tag name", "body").text)
