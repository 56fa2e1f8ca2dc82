"""The dashboard beside a real run: what it shows is what `rlm status` says, what is ordered there is done, and it heals."""

from __future__ import annotations

import json
import os
import re
import signal

import pytest
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys

from tests.acceptance.webprocess import scheduler_alive, web
from tests.browser.chromium import browser, console_errors, require
from tests.browser.stage import stage
from tests.conftest import running_server
from tests.leftbehind import processes_of
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: The browser's own words for a server that is away; a page cannot keep it from saying them.
OWN = re.compile(r"net::ERR_|the server responded with a status of 503")
#: Between two renderings of a page, and how long a busy machine takes for the rest.
REFRESH_SECONDS = 10.0
TYPE_COUNTS = """
const found = {};
for (const one of document.querySelectorAll("#types .type")) {
  const of = (what) => Number((one.querySelector(`[data-what="${what}"]`)?.textContent ?? "0").replace(/\\D/g, ""));
  found[one.dataset.type] = [of("completed"), of("total")];
}
return found;
"""


class Reader:
    """Somebody who looks at the dashboard, with a keyboard."""

    def __init__(self, driver, base):
        self.driver, self.base = driver, base

    def open(self, path="/"):
        self.driver.get(self.base + path)
        self.driver.execute_script("window.sinceLoaded = true")

    @property
    def was_reloaded(self):
        return not self.driver.execute_script("return window.sinceLoaded === true")

    def text(self, name="main"):
        return self.driver.execute_script("return document.getElementById(arguments[0]).innerText", name)

    def sees(self, words, name="main", timeout=REFRESH_SECONDS):
        wait_until(lambda: words in self.text(name), timeout=timeout, message=f"{words!r} is shown: {self.text(name)}")

    def press(self, key):
        ActionChains(self.driver).send_keys(key).perform()

    def order(self, button, **fields):
        """Press a button by its id, fill in the dialog, and confirm, all by keyboard."""
        there = "return document.getElementById(arguments[0])?.focus({ focusVisible: true }) === undefined && document.activeElement.id === arguments[0]"
        wait_until(lambda: self.driver.execute_script(there, button), timeout=REFRESH_SECONDS, message=f"{button} is there")
        self.press(Keys.ENTER)
        for name, value in fields.items():
            field = self.driver.find_element("css selector", f"#ask [name={name}]")
            field.clear()
            field.send_keys(value)
        submit = self.driver.find_element("css selector", "#ask [type=submit]")
        wait_until(submit.is_enabled, timeout=REFRESH_SECONDS, message="it can be confirmed")
        submit.send_keys(Keys.ENTER)
        fault = "return document.querySelector('#ask .fault').textContent"
        wait_until(lambda: not submit.is_displayed(), timeout=REFRESH_SECONDS, message="the order is taken")
        assert not self.driver.execute_script(fault)


@pytest.fixture(scope="module")
def seen():
    """A system and somebody who looks at it."""
    require()
    with stage() as (system, base), browser() as driver:
        yield system, Reader(driver, base)


def status(system):
    return json.loads(system.rlm("status", "--json").stdout)


def counts_of(found):
    return {
        name: [one["completed"], one["taken"] + one["carried_over"]] for name, one in found["by_type"].items()
    }


def test_a_run_is_started_shown_steered_and_cancelled(seen):
    """By keyboard alone; the page shows what `rlm status` says, and the commands see what was ordered."""
    system, reader = seen
    system.push_evenly(1500)
    reader.open()
    reader.sees("1,500", "figures")
    reader.order("start")
    run = wait_until(system.store.runs.current, timeout=20, message="a run is open")
    reader.sees(run.id, "verdict")

    def agrees():  # the run goes on between two looks: what the page shows lies between them
        before = counts_of(status(system))
        shown = reader.driver.execute_script(TYPE_COUNTS)
        after = counts_of(status(system))
        return {name for name, (done, total) in shown.items() if not before[name][0] <= done + 40 or total != after[name][1] or done > after[name][0]} == set() and shown

    wait_until(agrees, timeout=REFRESH_SECONDS, message="the page shows what the command says")

    reader.open("/endpoints")
    reader.order("pause-rebalance_api", seconds="300", reason="too many <b>errors</b>")
    reader.order("limit-overflow_rebalance_api_1", rate="20 per 10 seconds", reason="as they asked")
    reader.sees("too many <b>errors</b>")
    listed = {one["name"]: one for one in json.loads(system.rlm("endpoint", "list", "--json").stdout)}
    assert listed["rebalance_api"]["health"] == "paused"
    assert listed["overflow_rebalance_api_1"]["limit"] == "20 per 10 seconds"
    assert listed["overflow_rebalance_api_2"]["health"] != "paused"

    reader.open()
    reader.order("cancel")
    assert system.await_record(run.id)["state"] == "cancelled"
    reader.sees("no run is open")
    assert console_errors(reader.driver) == []


def test_it_says_what_is_away_and_heals(tmp_path):
    """No scheduler, then no Redis, then no `rlm web`, each told in words; what is back is shown without being loaded anew by hand."""
    require()
    data = tmp_path / "data"
    data.mkdir()
    with browser() as driver, running_server("valkey", data) as url:
        with web(tmp_path, url) as (_, port):
            reader = Reader(driver, f"http://127.0.0.1:{port}")
            reader.open()
            reader.sees("Nothing conducts")
            with scheduler_alive(tmp_path, url):
                wait_until(lambda: "Nothing conducts" not in reader.text(), timeout=REFRESH_SECONDS, message="one lives")
            reader.sees("rlm scheduler", "verdict", timeout=30)
            (server,) = [pid for pid, clue in processes_of(data).items() if "valkey-server" in clue]
            os.kill(server, signal.SIGKILL)
            reader.sees("Redis does not answer; shown is what was so", "trouble", timeout=20)
            with running_server("valkey", data):
                wait_until(lambda: not reader.text("trouble"), timeout=20, message="what is shown is current again")
                assert not reader.was_reloaded
                reader.sees("Nothing conducts")
        reader.sees("rlm web does not answer; shown is what was so", "trouble", timeout=30)
        with running_server("valkey", data), web(tmp_path, url, "--port", port):
            wait_until(lambda: not reader.text("trouble"), timeout=30, message="what is shown is current again")
            reader.sees("Nothing conducts")
        assert [one for one in console_errors(driver) if not OWN.search(one)] == []
