"""The pages Now and Endpoints in a real browser, during a real run: they show the truth, and orders take effect."""

from __future__ import annotations

import json
import time

import pytest

from tests.acceptance.system import System
from tests.acceptance.webprocess import port_of
from tests.browser import chromium
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: A window of 45 s: long enough for all that is tried in it.
SPEED = 4.0
PAUSED, LIMITED = "overflow_open_order_api_3", "overflow_open_order_api_2"
#: How long what a page shows may be behind, seconds, on a busy machine.
BEHIND = 15
COUNTS = """
    return Object.fromEntries([...document.querySelectorAll('[data-type]')].map((type) => [
        type.dataset.type,
        Object.fromEntries([...type.querySelectorAll('[data-what]')].map((one) =>
            [one.dataset.what, Number(one.textContent.replace(/[^0-9]/g, ''))])),
    ]))
"""


@pytest.fixture(scope="module")
def system(tmp_path_factory):
    chromium.require()
    with System(tmp_path_factory.mktemp("system"), speed=SPEED) as one:
        one.start("web", "web", "--port", "0")
        one.start_both()
        yield one


@pytest.fixture(scope="module")
def driver(system):
    with chromium.browser() as one:
        yield one


@pytest.fixture(scope="module")
def base(system):
    return f"http://127.0.0.1:{port_of(lambda: system.log('web'))}"


def text_of(driver, selector):
    return driver.execute_script("return document.querySelector(arguments[0])?.textContent ?? ''", selector).strip()


def order(driver, button, **fields):
    """Press a button, fill in the dialog and send it; wait until it is done."""
    driver.execute_script("document.getElementById(arguments[0]).click()", button)
    for name, value in fields.items():
        field = driver.find_element("css selector", f"#ask [name={name}]")
        field.clear()
        field.send_keys(value)
    driver.find_element("css selector", "#ask [type=submit]").click()
    wait_until(lambda: not driver.execute_script("return document.getElementById('ask').open"), timeout=BEHIND)


def listed(system, name):
    return next(one for one in json.loads(system.rlm("endpoint", "list", "--json").stdout) if one["name"] == name)


def test_during_a_run_the_pages_are_right_and_orders_happen(system, driver, base):
    """Counts are those of `rlm status --json`; a pause and a limit are seen by the commands, with their reason."""
    system.push_evenly(1100)
    run_id = system.ask_for_run()
    driver.get(base)

    def shown():
        counts = driver.execute_script(COUNTS)
        return {name: (one["completed"], one["total"]) for name, one in counts.items()}

    def said():
        found = json.loads(system.rlm("status", "--json").stdout)
        return {name: (one["completed"], one["taken"] + one["carried_over"]) for name, one in found["by_type"].items()}

    wait_until(lambda: any(done for done, _ in shown().values()), timeout=30, message="the page counts")
    for one in system.settings.endpoints.values():  # the counts stand still, to be compared
        system.store.control.pause(one, "test", 20.0)
    wait_until(lambda: not system.inflight(), timeout=30, message="no call is under way")
    counts = said()
    wait_until(lambda: shown() == counts, timeout=BEHIND, message="the page shows what the command says")
    assert run_id in text_of(driver, "#verdict")
    assert driver.execute_script("return document.querySelectorAll('#curve path.measured').length") == 2

    for one in system.settings.endpoints.values():
        system.store.control.resume(one, "test")
    driver.get(f"{base}/endpoints")
    order(driver, f"pause-{PAUSED}", seconds="600", reason="<b>maintenance</b>")
    assert listed(system, PAUSED)["health"] == "paused"
    order(driver, f"limit-{LIMITED}", rate="7 per 15 seconds", reason="asked for")
    assert listed(system, LIMITED)["limit"] == "7 per 15 seconds"
    wait_until(lambda: text_of(driver, f"#{PAUSED} .badge") == "paused" or None, timeout=BEHIND)
    wait_until(lambda: "7 per 15 seconds" in text_of(driver, f"#{LIMITED}") or None, timeout=BEHIND)
    wait_until(lambda: "<b>maintenance</b>" in text_of(driver, "#changes") or None, timeout=BEHIND)
    order(driver, f"resume-{PAUSED}")
    assert listed(system, PAUSED)["health"] != "paused"
    assert chromium.console_errors(driver) == []


def test_a_wrong_limit_is_refused_in_words(system, driver, base):
    """The dialog stays and says why; nothing is changed."""
    before = listed(system, PAUSED)["limit"]
    driver.get(f"{base}/endpoints")
    driver.execute_script("document.getElementById(arguments[0]).click()", f"limit-{PAUSED}")
    field = driver.find_element("css selector", "#ask [name=rate]")
    field.clear()
    field.send_keys("seven")
    driver.find_element("css selector", "#ask [type=submit]").click()

    wait_until(lambda: "seven" in text_of(driver, "#ask .fault") or None, timeout=BEHIND)
    driver.find_element("css selector", "#ask [value=cancel]").click()
    assert listed(system, PAUSED)["limit"] == before
    driver.get_log("browser")  # it notes each answer that is no success


def test_the_page_heals_by_itself(system, driver, base):
    """While `rlm web` is away it says so and how old it is; once it is back the page goes on by itself."""
    driver.get(base)
    port = base.rpartition(":")[2]
    system.stop("web")
    said = wait_until(lambda: text_of(driver, "#trouble"), timeout=30, message="the page says that it is out of date")
    assert "rlm web does not answer; shown is what was so" in said
    system.start("web", "web", "--port", port)

    wait_until(lambda: driver.execute_script("return document.getElementById('trouble').hidden") or None, timeout=30)
    driver.get_log("browser")  # it notes each connection that failed


def test_a_page_is_light_and_quick(system, driver, base):
    """With style and script it weighs less than 150 KB, and is usable soon; the time counts on a quiet machine."""
    took = []
    for _ in range(3):
        driver.get(base)
        time.sleep(0.2)
        timing = driver.execute_script(
            "const one = performance.getEntriesByType('navigation')[0];"
            "const all = [one, ...performance.getEntriesByType('resource').filter((r) => r.initiatorType != 'fetch')];"
            "return [one.domContentLoadedEventEnd, all.reduce((sum, each) => sum + each.encodedBodySize, 0)]"
        )
        took.append(timing)

    assert max(size for _, size in took) < 150_000
    assert min(milliseconds for milliseconds, _ in took) < 1500
    print(f"usable after {min(took)[0]:.0f} ms, {took[0][1]:,} bytes")
