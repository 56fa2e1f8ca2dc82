"""An API that shifts, doubles, splits, cuts and delays its answers: each event gets its own answer.

`tests/faults/hostile_judge.py` compares each call with the API's decision. It omits calls that no client can judge:
those answered by unsolicited bytes that came while the request was on its way.
"""

from __future__ import annotations

import http.client
import itertools
import json
import random
import threading
import time
from collections.abc import Callable

import pytest
from msgspec import Raw

from rlm.core.call import CallEnd
from rlm.delivery.http import Dispatcher
from rlm.delivery.http_message import Request
from tests.acceptance.scripted import endpoint
from tests.faults.hostile_api import ALL_TRICKS, HostileApi
from tests.faults.hostile_judge import misjudged, reused
from tests.faults.hostile_plan import word_for

pytestmark = pytest.mark.rest

TIMEOUT_SECONDS = 0.6
LANES = 6
#: Seconds that threads of the server have to see that their clients are gone.
PATIENCE = 10.0
WORDS = {
    CallEnd.COMPLETED: "delivered",
    CallEnd.REJECTED: "rejected",
    CallEnd.THROTTLED: "throttled",
    CallEnd.ERROR: "retry",
}


class Recorder:
    """Sends events with many lanes, and records how each call was understood."""

    def __init__(self, api: HostileApi, call: Callable[[str, str, int], str | None]) -> None:
        self.recorded: dict[tuple[str, int], str] = {}
        self.api = api
        self.call = call

    def send(self, calls: int) -> None:
        """Make `calls` calls, for each event at most four, each as another attempt."""
        left = iter(range(calls))
        lanes = [threading.Thread(target=self.lane, args=(number, left)) for number in range(LANES)]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()

    def lane(self, number: int, left) -> None:
        for event in itertools.count():
            for attempt in range(1, 5):
                if next(left, None) is None:
                    return
                event_id = f"i{number}-{event}:T"
                word = self.call(self.api.url("/x"), event_id, attempt)
                if word:
                    self.recorded[event_id, attempt] = word
                if word in {"delivered", "rejected"}:
                    break


def by_dispatcher(sender):
    """Call like a lane: connect, a slot's round trip, send, receive."""

    def call(url, event_id, attempt):
        target = endpoint(url)
        connection = sender.connect(target, TIMEOUT_SECONDS)
        until = time.monotonic() + TIMEOUT_SECONDS
        if sender.send(connection, target, Request(event_id, "T", "w", "r1", attempt, Raw(b"{}")), until):
            return None  # it may have been read or not
        return WORDS[sender.receive(connection, target, time.monotonic(), until).finish]

    return call


def judge(calls, seed):
    """Make calls with a dispatcher; its understanding must agree with the API's decisions."""
    sender = Dispatcher()
    with HostileApi(seed, TIMEOUT_SECONDS) as api:
        recorder = Recorder(api, by_dispatcher(sender))
        recorder.send(calls)
        sender.close()
        for thread in list(api.threads):  # what was sent is read before the server leaves
            thread.join(PATIENCE)
    print(f"seed {seed}: {len(api.calls)} calls read over {max(one.connection for one in api.calls)} connections")

    assert api.faults == []
    assert misjudged(api.calls, recorder.recorded) == []
    assert reused(api.calls) == []
    return api


def test_each_event_gets_the_answer_that_was_meant_for_it():
    """All tricks, several lanes, connections kept wherever that is right."""
    api = judge(600, random.randrange(10_000))

    assert max(one.connection for one in api.calls) < 0.8 * len(api.calls), "connections are kept"
    assert len({one.trick for one in api.calls}) > 30


@pytest.mark.long
def test_ten_thousand_calls_and_not_one_event_with_anothers_answer():
    """Every trick is met, many times."""
    api = judge(10_000, random.randrange(10_000))

    assert len(api.calls) > 9_000
    assert {one.trick for one in api.calls} | {one.poisoned_by for one in api.calls} >= set(ALL_TRICKS)


def test_who_believes_what_it_reads_is_caught():
    """The judge is worth something: a client that keeps its connection whatever comes is found out."""
    local, links = threading.local(), []

    def call(url, event_id, attempt):
        if not hasattr(local, "link"):
            local.link = http.client.HTTPConnection(url.split("/")[2], timeout=TIMEOUT_SECONDS)
            links.append(local.link)
        headers = {"Idempotency-Key": event_id, "Content-Type": "application/json"}
        try:
            local.link.request("POST", "/x", json.dumps({"event_id": event_id, "attempt": attempt}), headers)
            reply = local.link.getresponse()
            reply.read()
        except (OSError, http.client.HTTPException, ValueError, OverflowError):
            local.link.close()
            return "retry"
        return word_for(reply.status, reply.getheader("Retry-After"))

    with HostileApi(1, TIMEOUT_SECONDS) as api:
        recorder = Recorder(api, call)
        recorder.send(200)
    for link in links:
        link.close()

    assert api.faults == []
    assert misjudged(api.calls, recorder.recorded) != []
