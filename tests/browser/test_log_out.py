"""The log-out in a real browser with a configured token."""

from __future__ import annotations

import pytest

from tests.acceptance.cli import Installation
from tests.acceptance.webprocess import web
from tests.browser.chromium import browser, require
from tests.wait import wait_until

pytestmark = pytest.mark.rest

TOKEN = "a-token-for-this-test-only"


def test_a_session_ends_with_the_button_in_the_header(tmp_path, valkey_only_url):
    """Who has no session sees no button, and the page asks for the token again."""
    require()
    with (
        Installation(tmp_path, valkey_only_url) as inst,
        browser() as driver,
        web(tmp_path, valkey_only_url, "--config", str(inst.config), RLM_WEB__TOKEN=TOKEN) as (_, port),
    ):
        driver.get(f"http://127.0.0.1:{port}/queue")
        assert driver.find_elements("id", "logout") == []
        driver.find_element("name", "token").send_keys(TOKEN)
        driver.find_element("css selector", "[type=submit]").click()
        button = wait_until(lambda: driver.find_elements("id", "logout"), timeout=10, message="the page is shown")[0]
        session = driver.get_cookies()

        button.click()

        wait_until(lambda: driver.find_elements("name", "token"), timeout=10, message="it asks for the token")
        driver.add_cookie(session[0])
        driver.refresh()
        assert driver.find_elements("name", "token"), "the session is over on the server, too"


def test_without_a_token_there_is_nothing_to_log_out_of(tmp_path, valkey_only_url):
    """On the loopback interface everybody has a session."""
    require()
    with (
        Installation(tmp_path, valkey_only_url) as inst,
        browser() as driver,
        web(tmp_path, valkey_only_url, "--config", str(inst.config)) as (_, port),
    ):
        driver.get(f"http://127.0.0.1:{port}/queue")

        assert driver.find_element("id", "main").text
        assert driver.find_elements("id", "logout") == []
