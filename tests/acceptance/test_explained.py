"""A run on real processes, examined by `rlm explain` during and after it, and by `rlm compliance`."""

from __future__ import annotations

from itertools import pairwise

import pytest

from rlm.admin.explain import explain
from tests.acceptance.system import make_item
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: A type a fate: what its endpoint, which has the type's name in small letters, will do to its events.
LIMITS = {"DONE": "60/minute", "DEAD": "60/minute", "AGAIN": "60/minute", "HANGS": "60/minute", "FULL": "1/hour"}
DOCUMENT = "".join(
    f'[types.{name}]\nrate_limit = "{limit}"\nendpoints = [{{ name = "{name.lower()}", url = "http://h/{name}" }}]\n'
    for name, limit in LIMITS.items()
)


def test_every_fate_of_an_event_is_explained_and_the_limits_were_kept(make_system):
    """Pending, in flight, backing off, dead, completed and left over; no slot too many, until some are put there."""
    with make_system(document=DOCUMENT, env={"RLM_WORKERS__MIN": "1"}) as system:
        system.api.set_fault("dead", status=400)
        system.api.set_fault("again", status=500)
        system.api.set_fault("hangs", hang=True)
        system.start_both()
        wait_until(system.workers, timeout=30, message="a worker is ready")
        events = system.push([make_item("one", *LIMITS), make_item("two", "FULL")])
        assert told(system, "two:FULL").sentence.startswith("two:FULL is on the audit list, 2nd in ")

        run_id = system.ask_for_run()
        again = await_state(system, "one:AGAIN", "backing_off", "attempt (back-off)")
        flying = await_state(system, "one:HANGS", "in_flight", "is in flight at hangs")
        pending = await_state(system, "two:FULL", "pending", "lets a call through (1 full); full has a slot in ")
        done = await_state(system, "one:DONE", "completed", " by done at its 1st attempt")
        dead = await_state(system, "one:DEAD", "failed", "rejected, dead answered HTTP 400")
        record = system.await_record(run_id)
        left = told(system, "one:AGAIN")

        assert flying.worker
        assert (pending.position, pending.of) == (1, 1)
        assert [one.answer for one in done.attempts] == ["completed"]
        assert [one.text.partition(":")[0] for one in dead.attempts] == ["HTTP 400"]
        assert dead.letter.id == system.letters()[0]["id"]
        assert again.attempts[0].text.startswith("HTTP 500")
        assert left.state == "leftover"
        assert "the next run starts at about " in left.sentence
        assert left.runs_spent == 1
        assert_the_trail_is_what_the_api_saw(system)

        shown = system.rlm("explain", "one").stdout
        assert shown.count("\none:") + shown.startswith("one:") == len(LIMITS)
        assert "HTTP 500" in shown
        assert system.rlm("explain", "nobody", check=False).returncode == 3

        assert "No limit was exceeded" in system.rlm("compliance").stdout
        system.assert_promises(events, [record])
        put_calls(system, "done", LIMITS["DONE"])
        over = system.rlm("compliance", "--since", "15m", check=False)
        assert (over.returncode, ": done." in over.stdout) == (1, True)


def told(system, event_id):
    """Explain one event."""
    (found,) = explain(system.store, event_id)
    return found


def await_state(system, event_id, state, words):
    """Wait until an event is explained with this state and these words."""

    def look():
        found = told(system, event_id)
        return found if found.state == state and words in found.sentence else None

    return wait_until(look, timeout=20, message=f"{event_id} is {state}: {words}")


def assert_the_trail_is_what_the_api_saw(system):
    """Check for each event that its attempts have the API's number and numbering, in the order of time."""
    for name in LIMITS:
        found = told(system, f"one:{name}").attempts
        seen = [one.attempt for one in system.api.arrivals if one.event_id == f"one:{name}"]
        assert [one.attempt for one in found] == seen, name
        assert {one.endpoint for one in found} <= {name.lower()}
        assert all(first.at <= second.at for first, second in pairwise(found))


def put_calls(system, endpoint, limit):
    """Write more calls of this moment into the log than the limit of their endpoint allows."""
    window, now_us = system.settings.endpoints[endpoint].window_id, system.store.now_us()
    for _ in range(int(limit.partition("/")[0]) + 1):
        call = f"other DONE {endpoint} {window} {now_us} completed 10.0 0 other:DONE 1"
        system.store.client.xadd(system.store.keys.calls, {"c": call})
