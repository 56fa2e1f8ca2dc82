"""A budget in a whole system: endpoints that share an account stay within it together, by the API's count."""

from __future__ import annotations

import json
import re

import pytest

from tests.acceptance.system import make_item

pytestmark = [pytest.mark.alone, pytest.mark.long]

#: Two endpoints of 30 a minute that may have 40 a minute together: of 120 events 80 and no more fit into 115 seconds.
DOCUMENT = """
[run]
window_seconds = 115
[types.SHARED]
priority = 5
processing_seconds = 1.0
rate_limit = "30/minute"
endpoints = [
  { name = "first", url = "http://127.0.0.1:1/first", budget = "account" },
  { name = "second", url = "http://127.0.0.1:1/second", budget = "account" },
]
[budgets.account]
rate_limit = "40/minute"
"""


def test_a_shared_budget_is_used_up_and_never_exceeded(make_system):
    """Nothing is refused, what the budget allows in the window is done, and the record and a person are told of it."""
    with make_system(document=DOCUMENT) as system:
        events = system.push([make_item(f"e{number}", "SHARED") for number in range(120)])
        system.start_both()

        record = system.await_record(system.ask_for_run())
        shown = system.rlm("result").stdout
        seen = system.api.budget_summary()["account"]

        assert record["counts"]["completed"] == seen.calls == 80
        assert record["counts"]["leftover"] == record["plan"]["expected_leftover"] == 40
        assert record["by_budget"]["account"]["calls"] == 80
        assert seen.most == record["by_budget"]["account"]["peak_in_window"] == 40
        assert re.search(r"^\W*account +80 ", shown, re.MULTILINE), shown
        assert not system.repeats()
        system.assert_promises(events, [record])


#: 80 of the 240 events fit. A quarter of the calls is for the low type, which has as many events as the high one.
SHARED_OUT = """
[run]
window_seconds = 115
[types.HIGH]
priority = 5
processing_seconds = 1.0
rate_limit = "40/minute"
endpoints = [
  { name = "first", url = "http://127.0.0.1:1/first", budget = "account" },
  { name = "second", url = "http://127.0.0.1:1/second", budget = "account" },
]
[types.LOW]
priority = 1
share = 0.25
processing_seconds = 1.0
rate_limit = "30/minute"
endpoints = [{ name = "third", url = "http://127.0.0.1:1/third", budget = "account" }]
[budgets.account]
rate_limit = "40/minute"
"""


def test_a_share_of_a_budget_is_what_the_plan_says(make_system):
    """Calls that wait for the budget's slots, with many idle lanes, are divided as planned."""
    with make_system(document=SHARED_OUT) as system:
        events = system.push([make_item(f"e{number}", "HIGH", "LOW") for number in range(120)])
        plan = json.loads(system.rlm("plan", "--json").stdout)["by_type"]
        system.start_both()

        record = system.await_record(system.ask_for_run())

        completed = {name: one["completed"] for name, one in record["by_type"].items()}
        assert (
            completed == {name: 120 - one["expected_leftover"] for name, one in plan.items()} == {"HIGH": 60, "LOW": 20}
        )
        system.assert_promises(events, [record])
