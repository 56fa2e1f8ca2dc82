"""The page What if in a real browser: the answer follows the sliders, and the address contains the question."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

import pytest

from tests.acceptance.webprocess import web
from tests.browser.chromium import browser, console_errors, require
from tests.store import steps
from tests.wait import wait_until

pytestmark = pytest.mark.rest

DRAG = """
const slider = document.getElementById(arguments[0]).closest(".twins").querySelector("[type=range]");
for (const value of arguments[1]) {
  slider.value = value;
  slider.dispatchEvent(new Event("input", { bubbles: true }));
}
slider.dispatchEvent(new Event("change", { bubbles: true }));
"""


def answer_of(driver):
    """Return the shown verdict."""
    return driver.execute_script("return document.querySelector('#verdict b').textContent")


def test_the_answer_moves_as_one_drags(tmp_path, valkey_only_url):
    """500 events leave 140 over, two more endpoints none; the link asks the same, and the console is empty."""
    require()
    with web(tmp_path, valkey_only_url) as (_, port), browser() as driver:
        base = f"http://127.0.0.1:{port}/whatif"
        driver.get(f"{base}?for=waiting&events.{steps.TYPE}=400")
        driver.execute_script(DRAG, f"events.{steps.TYPE}", [450, 470, 480])
        wait_until(
            lambda: answer_of(driver) == "120 of 480 events will be left over", timeout=20, message="120 are left"
        )
        assert driver.execute_script("return document.getElementById('for-counts').checked")

        driver.execute_script(DRAG, f"add.{steps.TYPE}", [1, 2])
        wait_until(lambda: answer_of(driver).startswith("All 480 events are done"), timeout=20, message="all are done")
        assert "today: 120 of 480" in driver.execute_script("return document.getElementById('verdict').textContent")

        asked = parse_qs(urlsplit(driver.current_url).query)
        told = {f"events.{steps.TYPE}": ["480"], f"add.{steps.TYPE}": ["2"], "for": ["counts"]}
        assert asked == told  # what is as today is not in it, so that it stays short with many types
        driver.get(driver.current_url)
        assert answer_of(driver).startswith("All 480 events are done")
        told = driver.execute_script("return document.querySelector('#answer code').textContent")
        added = " ".join(f"--add-endpoint {steps.TYPE}={steps.TYPE}_more_{n}" for n in (1, 2))
        assert told == f"rlm plan --count {steps.TYPE}=480 {added}"
        assert console_errors(driver) == []
