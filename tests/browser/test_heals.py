"""A page says what is away, and recovers by itself once it is back."""

from __future__ import annotations

import os
import re
import signal

import pytest

from tests.acceptance.webprocess import scheduler_alive, web
from tests.browser.chromium import browser, console_errors, require
from tests.conftest import running_server
from tests.leftbehind import processes_of
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: The browser's own words for an answer that failed; a page cannot keep it from saying them.
OWN = re.compile(r"net::ERR_|the server responded with a status of 503")


def test_it_says_what_is_away_and_heals(tmp_path):
    """No scheduler, then no Redis: the page says so, and is current again once they are back, without being loaded."""
    require()
    data = tmp_path / "data"
    data.mkdir()
    with browser() as driver, running_server("valkey", data) as url, web(tmp_path, url) as (_, port):
        driver.get(f"http://127.0.0.1:{port}/")
        driver.execute_script("window.loadedOnce = true")

        def text(name):
            return driver.execute_script("return document.getElementById(arguments[0]).innerText", name)

        def shows(words, name="verdict"):
            wait_until(lambda: words in text(name), timeout=30, message=f"{words!r} is shown")

        shows("Nothing conducts")
        with scheduler_alive(tmp_path, url):
            wait_until(lambda: "Nothing conducts" not in text("verdict"), timeout=30, message="a scheduler is seen")
        shows("rlm scheduler")
        (server,) = [pid for pid, clue in processes_of(data).items() if "valkey-server" in clue]
        os.kill(server, signal.SIGKILL)
        shows("Redis does not answer (its last answer: ", "trouble")
        with running_server("valkey", data):
            wait_until(lambda: not text("trouble"), timeout=30, message="what is shown is current again")
        assert driver.execute_script("return window.loadedOnce")
        assert [one for one in console_errors(driver) if not OWN.search(one)] == []
        driver.get("about:blank")  # before the server is gone
