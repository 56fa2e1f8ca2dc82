"""The trail of an event: each call is written in the step that settles it or gives it back, and lives as long."""

from __future__ import annotations

import re

import pytest

from rlm.core import trail
from rlm.core.trail import CallEnd, Heard
from rlm.ledger.recovery import POISON_DEATHS
from tests.store import looks, steps
from tests.store.deadletters import close

HEARD = Heard("HTTP 200", 0.25)

#: How a call may end, and the answer that stands in the trail.
ENDS = {
    "complete": (steps.complete, CallEnd.COMPLETED),
    "reject": (steps.reject, CallEnd.REJECTED),
    "retry": (steps.fail, CallEnd.ERROR),
    "throttle": (
        lambda store, claim, **more: steps.settle(store, claim, "ready", CallEnd.THROTTLED, **more),
        CallEnd.THROTTLED,
    ),
}


@pytest.fixture
def run(running):
    return running(1)


def trail_of(store):
    """Read the event's trail."""
    return trail.read(store.client.hgetall(store.keys.event(steps.event_id(1))))


@pytest.mark.parametrize(("end", "answer"), ENDS.values(), ids=ENDS)
def test_a_call_leaves_its_endpoint_time_answer_and_duration(store, run, end, answer):
    """The time is that of Redis, the run and the attempt are those of its body; the log of calls has it too."""
    claim = steps.claim(store)
    before = looks.redis_us(store) / 1_000_000

    assert end(store, claim, heard=HEARD)

    (one,) = trail_of(store)
    assert before <= one.at <= looks.redis_us(store) / 1_000_000
    assert (one.run_id, one.number, one.endpoint) == (run.id, 1, steps.ENDPOINT)
    assert (one.answer, one.text, one.seconds) == (answer, "HTTP 200", 0.25)
    (logged,) = store.calls.of_run(run.id)
    assert (logged.type, logged.endpoint, logged.end, logged.milliseconds) == (steps.TYPE, claim.endpoint, answer, 100)
    assert (logged.event_id, logged.claims, logged.sent_us) == (claim.event_id, claim.number, claim.stamp)
    assert logged.window_id == store.settings.endpoints[claim.endpoint].window_id
    assert 0 <= logged.age_ms < 10_000


def test_what_was_given_back_without_a_call_is_only_counted(store, run):
    """It was no attempt, and no call."""
    for _ in range(2):
        assert steps.settle(store, steps.claim(store), "ready")

    assert (trail_of(store), store.calls.of_run(run.id)) == ([], [])
    assert looks.event(store, steps.event_id(1))["unsent"] == "2"


def test_the_trail_goes_on_over_attempts_and_runs_oldest_first(store, token, run):
    """A throttled call is not counted, so the next one has the same number."""
    steps.settle(store, steps.claim(store), "ready", CallEnd.THROTTLED)
    steps.fail(store, steps.claim(store), "spent")
    close(store, token, run)
    later = steps.start_run(store, token)
    steps.complete(store, steps.claim(store))

    found = [(one.run_id, one.number, one.answer) for one in trail_of(store)]
    assert found == [
        (run.id, 1, CallEnd.THROTTLED),
        (run.id, 1, CallEnd.ERROR),
        (later.id, 2, CallEnd.COMPLETED),
    ]


@pytest.mark.parametrize("calls", [50, 51])
def test_only_the_newest_entries_are_kept(store, run, calls):
    """An event that is throttled again and again does not grow."""
    for index in range(calls):
        steps.settle(store, steps.claim(store), "ready", CallEnd.THROTTLED, heard=Heard(str(index)))

    fields = store.client.hgetall(store.keys.event(steps.event_id(1)))
    kept = range(max(0, calls - trail.LENGTH), calls)
    assert [one.text for one in trail.read(fields)] == [str(index) for index in kept]
    assert trail.written_in(fields) == calls
    assert sum(bool(re.fullmatch(rb"t\d+", name)) for name in fields) == len(kept)


@pytest.mark.parametrize("lost", ["died", "froze", "closed"])
def test_a_call_that_was_lost_stands_there_with_nobody_knowing_its_answer(store, token, run, lost):
    """It may have been sent. Its late answer changes nothing any more."""
    claim = steps.claim(store)
    if lost == "died":
        assert store.recovery.reap(claim.worker_id) == 1
    elif lost == "froze":
        store.client.zadd(store.keys.inflight, {claim.event_id: 1})
        steps.settle(store, steps.claim(store, "other"), "ready")
    else:
        steps.finish(store, token, run)

    (one,) = trail_of(store)
    assert (one.run_id, one.number, one.endpoint) == (run.id, 1, claim.endpoint)
    assert (one.answer, one.seconds) == (CallEnd.UNKNOWN, None)
    assert [call.end for call in store.calls.of_run(run.id)] == [CallEnd.UNKNOWN]
    assert not steps.complete(store, claim)
    assert len(trail_of(store)) == 1


def test_a_poison_event_keeps_its_trail(store, run):
    """As long as its hash lives."""
    for _ in range(POISON_DEATHS):
        store.recovery.reap(steps.claim(store).worker_id)

    assert looks.event(store, steps.event_id(1))["state"] == "failed"
    assert [one.answer for one in trail_of(store)] == [CallEnd.UNKNOWN] * POISON_DEATHS


def test_what_is_forgotten_leaves_no_trail(make_store, run):
    """With `queue.dedupe_seconds = 0` nothing is left of a settled event."""
    store = make_store(queue={"dedupe_seconds": 0})

    steps.complete(store, steps.claim(store))

    assert not store.client.exists(store.keys.event(steps.event_id(1)))


@pytest.mark.parametrize("text", ["x" * 10_000, "\udcff\x1b[2J", 'a "quote" | and a bar\n'])
def test_an_answer_of_any_kind_is_kept_as_far_as_there_is_room(store, run, text):
    """What a server or an error says goes neither beyond its room nor astray."""
    assert steps.fail(store, steps.claim(store), heard=Heard(text, None))

    (one,) = trail_of(store)
    assert one.text == text[: trail.TEXT_LENGTH].encode("utf-8", "backslashreplace").decode()
