"""Every page by axe-core during a run and with finished runs; runs are also started and ended there."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from rlm.web.pages import PAGES
from tests.browser.chromium import browser, console_errors, require, resize
from tests.browser.stage import stage
from tests.wait import wait_until

pytestmark = pytest.mark.rest

AXE = Path(__file__).parent / "vendor/axe.min.js"
WIDE, NARROW = 1440, 360
#: Its rules for WCAG 2.2 AA and those for what is best practice.
RUN = "axe.run(document, { resultTypes: ['violations'] }).then((found) => arguments[0](found.violations))"
#: How long what a page shows may be behind, seconds, on a busy machine.
BEHIND = 15
FOCUS = "document.getElementById(arguments[0])?.focus(); return document.activeElement.id === arguments[0]"
#: Where a button is, and what the figures of the page are by now.
PLACE = """
const box = document.getElementById(arguments[0]).getBoundingClientRect();
return [box.x + box.width / 2, box.y + box.height / 2, document.getElementById("figures").textContent];
"""
#: What is cut off or can only be read by scrolling sideways: the page, or a table in its box.
SIDEWAYS = """
return [document.documentElement, ...document.querySelectorAll(".scroll, .panel")]
  .filter((one) => one.scrollWidth > one.clientWidth + 1)
  .map((one) => `${one.className || "the page"} ${one.getAttribute("aria-label") ?? ""}, ${one.scrollWidth} px wide`)
"""


@pytest.fixture(scope="module")
def seen():
    """A system with a finished run, and a browser that shows it."""
    require()
    with stage() as (system, base), browser() as driver:
        system.push_evenly(50, prefix="first")
        system.await_record(system.ask_for_run())
        yield system, base, driver


def press(driver, button):
    """Press a button by its id and confirm, only with the keyboard."""
    wait_until(lambda: driver.execute_script(FOCUS, button), timeout=BEHIND, message=f"{button} is there")
    ActionChains(driver).send_keys(Keys.ENTER).perform()
    submit = driver.find_element("css selector", "#ask [type=submit]")
    wait_until(submit.is_displayed, timeout=BEHIND, message="it asks")
    submit.send_keys(Keys.ENTER)
    wait_until(lambda: not submit.is_displayed(), timeout=BEHIND, message="the order is taken")


def hold(driver, button):
    """Click a button so slowly that its section is updated meanwhile, and confirm."""
    x, y, before = driver.execute_script(PLACE, button)
    mouse = {"x": x, "y": y, "button": "left", "clickCount": 1}
    driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mousePressed", **mouse})
    wait_until(lambda: driver.execute_script(PLACE, button)[2] != before, timeout=BEHIND, message="there are news")
    driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseReleased", **mouse})
    submit = driver.find_element("css selector", "#ask [type=submit]")
    wait_until(submit.is_displayed, timeout=BEHIND, message="it asks")
    submit.click()
    wait_until(lambda: not submit.is_displayed(), timeout=BEHIND, message="the order is taken")


def start(seen, events, prefix):
    """Push events and start a run from the page; return its id once calls are in flight."""
    system, base, driver = seen
    system.push([{"id": f"bad-{prefix}", "wallet_name": "<b>wallet</b>", "events": ["NOT_A_TYPE"]}])
    system.push_evenly(events, prefix=prefix)
    driver.get(base)
    press(driver, "start")
    run = wait_until(system.store.runs.current, timeout=BEHIND, message="a run is open")
    wait_until(system.inflight, timeout=30, message="calls are under way")
    return run.id


def test_a_run_is_started_by_keyboard_and_cancelled_by_a_slow_mouse(seen):
    """The page follows, and the record has it."""
    system, _, driver = seen
    run_id = start(seen, 1500, "a")
    verdict = driver.find_element("id", "verdict")
    wait_until(lambda: run_id in verdict.text, timeout=BEHIND, message="the page shows the run")

    hold(driver, "cancel")

    record = system.await_record(run_id)
    assert (record["state"], record["counts"]["leftover"] > 0) == ("cancelled", True)
    wait_until(lambda: "no run is open" in verdict.text, timeout=BEHIND, message="the page shows that none is")
    assert console_errors(driver) == []


def test_no_page_has_a_barrier_or_is_cut_off(seen):
    """Colours are looked at in both schemes, sizes in both widths."""
    system, base, driver = seen
    system.api.set_fault("overflow_balance_check_api_2", error_rate=0.5, status=422)
    system.rlm("endpoint", "pause", "overflow_balance_update_api_3", "--for", "10m")
    over = [one["run_id"] for one in json.loads(system.rlm("list", "--json").stdout)]
    now = start(seen, 100, "b")
    found = []
    paths = [page.path.replace("{run_id}", now).replace("{event_id:path}", min(system.pushed)) for page in PAGES]
    for path in (*paths, f"/runs/{over[0]}"):
        driver.get(base + path)
        driver.execute_script(AXE.read_text())
        for width, dark in ((WIDE, False), (NARROW, True)):
            resize(driver, width, dark=dark)
            when = f"{path}, {width} px, {'dark' if dark else 'light'}"
            violations = driver.execute_async_script(RUN)
            found += [f"{when}: {one['id']}: {node['html'][:160]}" for one in violations for node in one["nodes"]]
            found += [f"{when}: cut off: {one}" for one in driver.execute_script(SIDEWAYS)]
        found += [f"{path}: {error}" for error in console_errors(driver)]

    assert not found, "\n".join(found)


def test_enter_twice_is_one_order(seen):
    """The second comes before the first is answered."""
    system, base, driver = seen
    name = "overflow_rebalance_api_3"
    driver.get(f"{base}/endpoints")
    driver.execute_script("document.getElementById(arguments[0]).click()", f"pause-{name}")
    driver.find_element("css selector", "#ask [name=seconds]").send_keys("60", Keys.ENTER, Keys.ENTER)
    wait_until(lambda: not driver.execute_script("return document.getElementById('ask').open"), timeout=BEHIND)

    assert [each.what for each in system.store.rules.changes() if each.what == "pause" and each.name == name] == [
        "pause"
    ]
