"""The pages of failures, events and runs in a real browser: the commands see what is ordered there."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from rlm.core.item import Reason, encode_letter
from tests.acceptance.cli import Installation
from tests.acceptance.webprocess import web
from tests.browser.chromium import browser, console_errors, require
from tests.store import steps
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: A name that would be a picture, a command to a terminal, and reversed text; and what is to be seen of it.
HOSTILE = "<img src=x onerror=alert(1)>\x1b[31m\u202ewallet"
SEEN = "<img src=x onerror=alert(1)>\\u001b[31m\\u202ewallet"
#: An id has no such characters, but may be markup and a path.
ITEM = "<img/src=x/onerror=alert(1)>/../'\"&?#"


@pytest.fixture
def inst(tmp_path, valkey_only_url):
    with Installation(tmp_path, valkey_only_url) as made:
        yield made


@pytest.fixture(scope="module")
def driver():
    require()
    with browser() as driver:
        yield driver


@pytest.fixture
def open_page(inst, tmp_path, valkey_only_url, driver):
    """Open a page of `rlm web` and return the texts of its main part."""
    with web(tmp_path, valkey_only_url, "--config", str(inst.config)) as (_, port):

        def go(path):
            driver.get(f"http://127.0.0.1:{port}{path}")
            return driver.find_element("id", "main").text

        yield go
        assert console_errors(driver) == []
        driver.get("about:blank")  # before the server is gone


def letter(inst, number, detail):
    item = steps.item(f"i{number}", steps.TYPE)
    raw = encode_letter(
        item,
        Reason.REJECTED,
        detail,
        failed_at=1703169025.0 + number,
        run_id="run",
        event=steps.event_id(number),
        endpoint=steps.ENDPOINT,
    )
    inst.store.client.lpush(inst.store.keys.failed, raw)
    return json.loads(raw)["id"]


def press(driver, selector, word, meanwhile=lambda: None):
    """Press the button within `selector` that begins with a word, wait for the count, and confirm; return the note."""
    buttons = driver.find_elements("css selector", f"{selector} button[data-post]")
    next(one for one in buttons if one.text.startswith(word)).click()
    submit = driver.find_element("css selector", "#ask [type=submit]")
    wait_until(submit.is_enabled, timeout=10, message="the letters are counted")
    note = driver.find_element("css selector", "#ask .note").text
    meanwhile()
    submit.click()
    wait_until(lambda: not submit.is_displayed(), timeout=10, message="it is done")
    return note


def test_letters_are_retried_and_dropped_and_the_commands_see_it(inst, driver, open_page):
    """A group with its count first, then one by itself; the page shows what is left without being loaded again."""
    unprocessable = [letter(inst, number, "HTTP 422: no") for number in (1, 2)]
    bad, worse = letter(inst, 3, "HTTP 400: bad"), letter(inst, 4, "HTTP 400: worse")
    assert "4 dead letters" in open_page("/failures")

    note = press(driver, "#groups tbody tr:first-child", "Retry")

    assert note.startswith("2 counted just now")
    left = [one["id"] for one in inst.json("failed", "list")]
    assert len(left) == 2
    assert set(left) in ({bad, worse}, set(unprocessable))
    assert inst.json("queue", "stats")["by_type"][steps.TYPE]["pending"] == 2
    wait_until(
        lambda: "2 dead letters" in driver.find_element("id", "main").text, timeout=10, message="the page follows"
    )

    press(driver, "#letters tbody tr:first-child", "Drop")

    assert [one["id"] for one in inst.json("failed", "list")] == left[1:]


def test_a_letter_written_after_the_count_stays(inst, driver, open_page):
    """No more are dropped than the dialog has shown."""
    letter(inst, 1, "HTTP 422: no")
    open_page("/failures")
    later = []

    note = press(driver, "#groups header", "Drop", lambda: later.append(letter(inst, 2, "HTTP 422: no")))

    assert note.startswith("1 counted just now")
    assert [one["id"] for one in inst.json("failed", "list")] == later


def test_what_a_retry_cannot_help_has_no_button_for_it(inst, driver, open_page):
    """It can be dropped."""
    item = steps.item("i1", "NOT_A_TYPE")
    raw = encode_letter(item, Reason.UNKNOWN_TYPE, "no", failed_at=1703169025.0, run_id="run", event="i1:NOT_A_TYPE")
    inst.store.client.lpush(inst.store.keys.failed, raw)

    assert "a retry cannot help" in open_page("/failures")
    words = {one.text for one in driver.find_elements("css selector", "#main button[data-post]")}
    assert words == {"Drop"}
    open_page("/")
    assert not driver.find_elements("css selector", "#failures button[data-post]")


def test_a_filter_that_is_not_understood_has_no_buttons(inst, driver, open_page):
    """Else it would drop what nobody meant."""
    letter(inst, 1, "HTTP 422: no")

    assert "not a duration" in open_page("/failures?since=yesterday")
    assert not driver.find_elements("css selector", "#main button[data-post]")


def test_what_comes_from_outside_is_text(inst, driver, open_page):
    """Whatever an id or a wallet is called, on each page that shows it."""
    inst.push(steps.item(ITEM, steps.TYPE, wallet_name=HOSTILE))
    event = f"{ITEM}:{steps.TYPE}"
    pages = {
        "/queue": (event, SEEN),
        f"/queue?wallet={quote(HOSTILE)}": (event, SEEN),
        f"/search?q={quote(HOSTILE)}": ("what waits of the wallet", repr(HOSTILE)),
        f"/search?q={quote(ITEM, safe='')}": (event, "on the audit list"),
        f"/events/{quote(event, safe='')}": (event, "on the audit list"),
    }

    for path, expected in pages.items():
        told = open_page(path)
        assert all(one in told for one in expected), (path, told)
        assert not driver.find_elements("css selector", "#main img"), path
    assert driver.title == f"{event} · RLM"


def test_runs_are_listed_and_shown(inst, driver, open_page):
    """From a fresh installation, which says what to do, to two records."""
    assert "rlm start --wait" in open_page("/runs")
    inst.push(*steps.items(2, steps.TYPE))
    ids = []
    for _ in range(2):
        run = inst.start_run()
        ids.append(run.id)
        inst.close_run(run)

    assert all(one in open_page("/runs?state=partial") for one in ids)
    assert "2 left over" in open_page(f"/runs/{ids[0]}")
    assert "No run" in open_page("/runs/unknown")
    driver.get_log("browser")  # that one is not found is an error to a browser, too
