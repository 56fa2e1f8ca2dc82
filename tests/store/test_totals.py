"""The totals over all runs: they grow, never decrease, and agree exactly with the run records."""

from __future__ import annotations

import random
import threading
from collections import Counter

import pytest
import redis

from rlm.core.documents import TypeCounts
from rlm.core.errors import StoreError
from rlm.core.item import Reason
from rlm.core.tally import histograms
from rlm.delivery import run_end
from rlm.ledger.claims import Completion
from rlm.ledger.measures import Totals
from rlm.telemetry.catalogue import OUTCOMES
from tests.store import steps
from tests.store.windows import take
from tests.store.workload import TYPES, Workload

#: What a record says of a type that had no events in its run.
NONE: Counter[str] = Counter()


def close(store, token, run):
    steps.finish(store, token, run)
    return run_end.close_run(store, run.id)


def test_an_open_run_counts_as_it_goes(store, token, running):
    """What it has done so far is in the totals: they do not wait for its end."""
    run = running(3)
    before = store.totals.look()
    store.turns.complete(Completion(steps.claim_next(store, token, run), steps.ENDPOINT, 0.4, waited_seconds=0.003))
    now = store.totals.look()

    assert (before[f"taken:{steps.TYPE}"], before[f"completed:{steps.TYPE}"]) == (3, 0)
    assert now[f"completed:{steps.TYPE}"] == 1
    assert histograms(now, "call")[steps.ENDPOINT].seconds == 0.4
    assert store.totals.look() == now


def test_closing_a_run_adds_what_only_its_end_can_tell(store, token, running):
    """Nothing else changes with it, whoever looks: one that saw the run open, or one that comes now."""
    run = running(3)
    store.turns.complete(Completion(steps.claim_next(store, token, run), steps.ENDPOINT, 0.4))
    before = store.totals.look()
    close(store, token, run)

    now = store.totals.look()

    added = {name: number for name, number in (now - before).items() if "_us" not in name and "<=" not in name}
    assert added == {f"leftover:{steps.TYPE}": 2, "runs:partial": 1}
    assert Totals(store).look() == now


def test_totals_are_the_sum_of_the_records(store, token, running):
    """Over runs with every outcome, leftovers carried over, duplicates; claims without a call are in no record."""
    records = []
    for number in range(4):
        run = running(6 + 4 * number)
        first, second, third, fourth = (steps.claim_next(store, token, run) for _ in range(4))
        store.turns.complete(Completion(first, steps.ENDPOINT, 0.1))
        store.ledger.fail(second, Reason.REJECTED, "no", steps.OVERFLOW)
        store.ledger.throttle(third, steps.ENDPOINT)
        store.ledger.give_back(fourth)
        store.ledger.retry(steps.claim_next(store, token, run), steps.ENDPOINT, 60)
        records.append(close(store, token, run))

    totals = store.totals.look()

    for outcome, field in (("carried_over", "carried"), *((one, one) for one in ("taken", "completed", "failed"))):
        assert totals[f"{field}:{steps.TYPE}"] == sum(getattr(one.counts, outcome) for one in records), outcome
    assert totals[f"leftover:{steps.TYPE}"] == sum(one.counts.leftover for one in records) > 0
    for answer, field in (("completed", "delivered"), ("throttled", "throttled"), ("errors", "errors")):
        for name in (steps.ENDPOINT, steps.OVERFLOW):
            assert totals[f"{field}:{name}"] == sum(getattr(one.by_endpoint[name], answer) for one in records), (
                field,
                name,
            )
    assert totals["duplicates"] == sum(one.counts.duplicates for one in records)
    assert totals[f"unsent:{steps.TYPE}"] == 4
    assert totals["runs:partial"] == len(records)
    assert histograms(totals, "run")[""].number == len(records)


@pytest.mark.parametrize("seed", range(4))
def test_whatever_workers_do_totals_are_the_sum_of_the_records(store, token, seed):
    """Workers die, answer late and twice, letters are retried, a type is taken out of the file: to the event, always.

    Whoever has looked after every step sees the same as one that looks for the first time, and no number falls.
    """
    workload = Workload(store, token, random.Random(seed), steps.open_run(store, token))
    workload.push(20)
    watcher, seen = Totals(store), Counter()
    for _ in range(3):
        for _ in range(50):
            workload.step()
            seen = grown(watcher, seen)
        workload.next_run()
        store.recovery.fail_unknown(token, workload.run.id, steps.OTHER_TYPE)
        seen = grown(watcher, seen)
    assert Totals(store).look() == seen
    assert close(store, token, workload.run)

    now, records = grown(watcher, seen), store.runs.recent(100)

    assert Totals(store).look() == now
    for name in TYPES:
        for outcome, field in OUTCOMES.items():
            assert now[f"{field}:{name}"] == sum(
                getattr(one.by_type.get(name, TypeCounts()), outcome) for one in records
            ), outcome
    for name in store.endpoints():
        for answer, field in (("completed", "delivered"), ("throttled", "throttled"), ("errors", "errors")):
            assert now[f"{field}:{name}"] == sum(getattr(one.by_endpoint[name], answer) for one in records), (
                field,
                name,
            )
        if delivered := now[f"delivered:{name}"]:
            assert histograms(now, "call")[name].number == delivered
    assert now[f"failed:{steps.OTHER_TYPE}"] > 0


def grown(totals, seen):
    """Read the totals, and check that none has decreased."""
    now = totals.look()
    assert [name for name in seen if now[name] < seen[name]] == []
    return now


def test_no_number_ever_goes_back_while_runs_are_closed(store, token, running):
    """Looked at over and over by two processes while five runs are opened, worked off and closed."""
    done = threading.Event()
    fallen = []

    def watch(totals):
        seen: Counter[str] = Counter()
        while not done.is_set():
            now = totals.look()
            fallen.extend(name for name in seen if now[name] < seen[name])
            seen = now

    def work():
        for _ in range(5):
            run = running(12)
            steps.release(store, token, run, 12)
            while claim := steps.turn(store, run).claim:
                store.turns.complete(Completion(claim, steps.ENDPOINT, 0.1234))
            close(store, token, run)

    def work_and_end():
        try:
            work()
        finally:
            done.set()

    steps.at_once(work_and_end, *[lambda: watch(Totals(store)) for _ in range(2)])

    assert fallen == []
    assert store.totals.look()["runs:completed"] == 5


def test_a_redis_that_came_back_empty_begins_at_zero(store, token, running):
    """What this process remembers of the run that is gone does not count."""
    run = running(1)
    store.turns.complete(Completion(steps.claim_next(store, token, run), steps.ENDPOINT, 0.1))
    assert store.totals.look()
    mine = [key for key in store.client.keys(f"{store.settings.redis.prefix}:*") if b"epoch" not in key]
    store.client.delete(*mine)

    assert store.totals.look() == {}


def test_a_redis_that_came_back_as_it_was_counts_what_it_remembers(store, token, running):
    """The end of its file was cut off in mid-run: the calls it forgot do not count, those made anew do."""
    run = running(3)
    for _ in range(2):
        store.turns.complete(Completion(steps.claim_next(store, token, run), steps.ENDPOINT, 0.4))
    assert histograms(store.totals.look(), "call")[steps.ENDPOINT].number == 2
    store.client.rpop(store.keys.timings(run.id))
    store.turns.complete(Completion(steps.claim_next(store, token, run), steps.ENDPOINT, 2.5))

    mine, anew = store.totals.look(), Totals(store).look()

    assert mine == anew
    assert histograms(mine, "call")[steps.ENDPOINT].seconds == 2.9
    assert store.totals.look() == anew


def test_a_look_that_fails_in_the_middle_drops_nothing_and_counts_nothing_twice(store, token, running, monkeypatch):
    """Whatever was read before Redis failed is read again."""
    run = running(3)
    store.turns.complete(Completion(steps.claim_next(store, token, run), steps.ENDPOINT, 0.4))
    store.totals.look()
    store.turns.complete(Completion(steps.claim_next(store, token, run), steps.ENDPOINT, 0.4))
    whole = store.client.pipeline

    def lost(**options):
        pipeline = whole(**options)
        execute = pipeline.execute
        monkeypatch.setattr(pipeline, "execute", lambda: (execute(), fail())[1])
        return pipeline

    def fail():
        raise redis.ConnectionError("the answer was lost")

    monkeypatch.setattr(store.client, "pipeline", lost)
    for _ in range(2):
        with pytest.raises(StoreError):
            store.totals.look()
    monkeypatch.undo()

    assert store.totals.look() == Totals(store).look()
    assert histograms(store.totals.look(), "call")[steps.ENDPOINT].number == 2


def test_slots_and_their_calls_are_no_part_of_it(store, token, running):
    """A slot that was taken is not yet a call that was answered."""
    run = running(1)
    before = store.totals.look()
    take(store, store.endpoints()[steps.ENDPOINT], 3)

    assert store.totals.look() == before
    assert close(store, token, run)
