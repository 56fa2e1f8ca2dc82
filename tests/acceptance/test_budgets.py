"""A budget in a whole system: endpoints that share an account stay within it together, by the API's count."""

from __future__ import annotations

import pytest

from tests.acceptance.system import make_item

pytestmark = [pytest.mark.alone, pytest.mark.rest]

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
        assert [line.split()[:2] for line in shown.splitlines() if line.startswith("account")] == [["account", "80"]]
        assert not system.repeats()
        system.assert_promises(events, [record])
