"""The trail of an event: each call is written in the step that settles it or gives it back, and lives as long.

The tests of each script show that a late or repeated report writes nothing, because then nothing changes.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rlm.ledger
from rlm.core import trail
from rlm.core.item import Reason
from rlm.core.run import make_run_id
from rlm.core.trail import CallEnd, Heard
from rlm.ledger.claims import Admitted, Call
from rlm.ledger.reading import event_state
from rlm.ledger.recovery import POISON_DEATHS
from tests.store import looks, losses, steps

#: How a call may end, what the ledger is told, and the answer that stands in the trail.
ENDS = {
    "complete": (
        lambda turns, claim: turns.complete(steps.completed(claim, 0.25, "HTTP 200")),
        CallEnd.COMPLETED,
    ),
    "throttle": (
        lambda ledger, claim: ledger.throttle(claim, steps.ENDPOINT, Heard("HTTP 200", 0.25)),
        CallEnd.THROTTLED,
    ),
    "retry": (lambda ledger, claim: ledger.retry(claim, steps.ENDPOINT, 0, Heard("HTTP 200", 0.25)), CallEnd.ERROR),
    "spend": (lambda ledger, claim: ledger.spend(claim, steps.ENDPOINT, Heard("HTTP 200", 0.25)), CallEnd.ERROR),
    "reject": (
        lambda ledger, claim: ledger.fail(claim, Reason.REJECTED, "no", steps.ENDPOINT, Heard("HTTP 200", 0.25)),
        CallEnd.REJECTED,
    ),
    "fail": (
        lambda ledger, claim: ledger.fail(claim, Reason.ATTEMPTS_SPENT, "no", steps.ENDPOINT, Heard("HTTP 200", 0.25)),
        CallEnd.ERROR,
    ),
}
every_end = pytest.mark.parametrize(("end", "answer"), ENDS.values(), ids=ENDS)


@pytest.fixture
def run(running):
    return running(1)


@pytest.fixture
def claim(store, token, run):
    return steps.claim(store)


def trail_of(store, event_id=None):
    """Read an event's trail."""
    return trail.read(store.client.hgetall(store.keys.event(event_id or steps.event_id(1))))


def take_slot(store, claim):
    """Take the slot for this claim's call."""
    endpoint = store.settings.endpoints[steps.ENDPOINT]
    assert isinstance(store.windows.acquire(endpoint, Call(claim.lane, claim.event_id, endpoint.name)), Admitted)


@every_end
def test_a_call_leaves_its_endpoint_time_answer_and_duration(store, run, claim, end, answer):
    """The time is that of Redis, the run and the attempt are those of its body."""
    before = looks.redis_us(store) / 1_000_000

    assert end(store.turns if answer is CallEnd.COMPLETED else store.ledger, claim)

    (one,) = trail_of(store)
    assert before <= one.at <= looks.redis_us(store) / 1_000_000
    assert (one.run_id, one.number, one.endpoint) == (run.id, 1, steps.ENDPOINT)
    assert (one.answer, one.text, one.seconds) == (answer, "HTTP 200", 0.25)


def test_what_was_given_back_without_a_call_is_only_counted(store, token, run, claim):
    """It was no attempt."""
    store.ledger.give_back(claim)
    store.ledger.give_back(steps.claim(store))

    assert trail_of(store) == []
    assert looks.event(store, claim.event_id)["unsent"] == "2"


def test_the_trail_goes_on_over_attempts_and_runs_oldest_first(store, token, run, claim):
    """A throttled call is not counted, so the next one has the same number."""
    store.ledger.throttle(claim, steps.OVERFLOW)
    claim = steps.claim(store)
    steps.fail(store, claim, "spent")
    losses.run_closed(store, token, run, claim)
    later = steps.start_run(store, token)
    steps.complete(store, steps.claim(store))

    found = [(one.run_id, one.number, one.endpoint, one.answer) for one in trail_of(store)]
    assert found == [
        (run.id, 1, steps.OVERFLOW, CallEnd.THROTTLED),
        (run.id, 1, steps.ENDPOINT, CallEnd.ERROR),
        (later.id, 2, steps.OVERFLOW, CallEnd.COMPLETED),
    ]


@pytest.mark.parametrize("calls", [50, 51])
def test_only_the_newest_entries_are_kept(store, token, run, calls):
    """An event that is throttled again and again does not grow."""
    for index in range(calls):
        store.ledger.throttle(steps.claim(store), steps.ENDPOINT, Heard(str(index)))

    fields = store.client.hgetall(store.keys.event(steps.event_id(1)))
    kept = range(max(0, calls - trail.LENGTH), calls)
    assert [one.text for one in trail.read(fields)] == [str(index) for index in kept]
    assert trail.written_in(fields) == calls
    assert sum(bool(re.fullmatch(rb"t\d+", name)) for name in fields) == len(kept)


def test_the_scripts_reckon_with_the_same_length():
    """By the one piece that all of them include."""
    sources = [path.read_text() for path in (Path(rlm.ledger.__file__).parent / "lua").glob("*.lua")]
    lengths = re.findall(r"'trail', 1\).*?% (\d+)", "".join(sources))

    assert lengths == [str(trail.LENGTH)]


@pytest.mark.parametrize("late", [False, True], ids=["died", "froze"])
def test_a_call_of_a_lost_worker_stands_there_with_nobody_knowing_its_answer(store, token, run, late):
    """Where it had a slot, for then it may have been sent."""
    claim = steps.claim_next(store, token, run, lease_seconds=0.001 if late else 60)
    take_slot(store, claim)

    taken = 0
    while not taken:
        due = looks.redis_us(store)
        taken = store.recovery.orphan_expired([steps.TYPE], due) if late else store.recovery.orphan_worker("worker-1")

    (one,) = trail_of(store)
    assert (one.run_id, one.number, one.endpoint) == (run.id, 1, steps.ENDPOINT)
    assert (one.answer, one.seconds) == (CallEnd.UNKNOWN, None)


def test_a_lost_worker_without_a_slot_sent_nothing(store, claim):
    """The death is counted, and that is all."""
    store.recovery.orphan_worker("worker-1")

    assert trail_of(store) == []


def test_a_call_that_is_under_way_when_its_run_is_closed_stands_there_too(store, token, run, claim):
    """Its late answer changes nothing any more."""
    take_slot(store, claim)
    steps.finish(store, token, run)
    assert store.recovery.return_unsettled(run.id, [steps.TYPE])

    (one,) = trail_of(store)
    assert (one.number, one.endpoint, one.answer) == (1, steps.ENDPOINT, CallEnd.UNKNOWN)
    assert not steps.complete(store, claim)
    assert len(trail_of(store)) == 1


def test_a_poison_event_keeps_its_trail(store, token, run):
    """As long as its hash lives."""
    for _ in range(POISON_DEATHS):
        take_slot(store, steps.claim(store))
        store.recovery.orphan_worker("worker-1")

    assert looks.event(store, steps.event_id(1))["state"] == "failed"
    assert [one.answer for one in trail_of(store)] == [CallEnd.UNKNOWN] * POISON_DEATHS


def test_what_is_forgotten_leaves_no_trail(make_store, claim):
    """With `queue.dedupe_seconds = 0` nothing is left of a settled event."""
    store = make_store(queue={"dedupe_seconds": 0})

    steps.complete(store, claim)

    assert trail_of(store, claim.event_id) == []
    assert not store.client.exists(store.keys.event(claim.event_id))


@pytest.mark.parametrize("text", ["x" * 10_000, "\udcff\x1b[2J", 'a "quote" | and a bar\n'])
def test_an_answer_of_any_kind_is_kept_as_far_as_there_is_room(store, claim, text):
    """What a server or an error says goes neither beyond its room nor astray."""
    assert store.ledger.retry(claim, steps.ENDPOINT, 0, Heard(text, None))

    (one,) = trail_of(store)
    assert one.text == text[: trail.TEXT_LENGTH].encode("utf-8", "backslashreplace").decode()


def test_the_run_that_took_an_event_is_told_by_when_that_was(store, token):
    """It is the open one, or closed by now, or the event has it as the version before wrote it, or none took it."""
    steps.push(store, *steps.items(4, steps.TYPE))
    run = steps.open_run(store, token)
    steps.drain(store, token, run)
    later = make_run_id(run.started_at + 60)
    store.client.hset(store.keys.event(steps.event_id(3)), "taken_in", "r0")
    store.client.hset(store.keys.event(steps.event_id(4)), "type", steps.TYPE)  # retried by hand

    def taken_in():
        found = [event_state(store, one) for one in steps.event_ids(4)]
        return [one.taken_in for one in found]

    assert taken_in() == [run.id, run.id, "r0", None]
    store.client.set(store.keys.current, later)
    assert taken_in() == [None, None, "r0", None]
    store.client.lpush(store.keys.runs, "r0", run.id)
    assert taken_in() == [run.id, run.id, "r0", None]
