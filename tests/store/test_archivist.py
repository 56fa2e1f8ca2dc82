"""The archivist: nothing leaves Redis that is not on disk, whatever fails, and no more is kept than is to be."""

from __future__ import annotations

import json
import logging

import pytest

from rlm.errors import FencedError, StoreError
from scheduler import archivist as archiving
from scheduler.archivist import Archivist
from scheduler.leader import Leader
from tests.store import steps


@pytest.fixture
def kept(make_store, tmp_path):
    """A store that keeps 3 records and 4 letters, its archive in this test's directory."""
    return make_store(run={"history": 3}, queue={"failed_max": 4}, archive={"directory": str(tmp_path / "archive")})


@pytest.fixture
def leader(kept):
    leader = Leader(kept.leases)
    assert leader.campaign()
    return leader


@pytest.fixture
def archivist(kept, leader):
    return Archivist(kept, leader)


def fill(store, leader, number, *, first=0):
    """Close `number` runs, each with its number, and have as many letters, each with its own."""
    for index in range(first, first + number):
        run = steps.open_run(store, leader.token)
        steps.finish(store, leader.token, run)
        store.runs.close(run.id, {"run_id": run.id, "number": index}, [], wanted=0)
        store.client.lpush(store.keys.failed, json.dumps({"id": f"letter {index}"}))


def archived(store, kind):
    files = sorted(store.settings.archive_dir.glob(f"{kind}-*"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def numbers(store):
    """The numbers of the archived records, then of those in Redis, oldest first."""
    in_redis = [store.runs.record(run_id)["number"] for run_id in reversed(store.runs.history(10_000))]
    return [one["number"] for one in archived(store, "records")], in_redis


def test_nothing_is_done_while_no_more_is_there_than_is_kept(kept, leader, archivist):
    """No directory is made."""
    fill(kept, leader, 3)

    archivist.work()

    assert not kept.settings.archive_dir.exists()


def test_what_is_more_is_archived_and_then_removed(kept, leader, archivist):
    """The newest stay; of records and letters none is twice, none missing."""
    fill(kept, leader, 6)

    archivist.work()

    assert numbers(kept) == ([0, 1, 2], [3, 4, 5])
    assert [one["id"] for one in archived(kept, "failed")] == ["letter 0", "letter 1"]
    assert kept.letters.count() == 4


def test_a_backlog_is_moved_in_chunks(kept, leader, archivist):
    """A step each while there is nothing else to do, until there is no more; then nothing is asked any more."""
    kept.client.lpush(kept.keys.failed, *[json.dumps({"id": str(number)}) for number in range(1000)])

    steps_taken = 0
    while archivist.step():
        steps_taken += 1

    assert steps_taken == 5
    assert [one["id"] for one in archived(kept, "failed")] == [str(number) for number in range(996)]
    assert not archivist.step()


def test_work_ends_when_its_time_is_over(kept, leader, archivist):
    """The next run does not wait for a backlog: a chunk is moved, the rest later."""
    kept.client.lpush(kept.keys.failed, *[json.dumps({"id": str(number)}) for number in range(1000)])

    archivist.work(0.0)

    assert len(archived(kept, "failed")) == 200
    while archivist.step():
        continue
    assert len(archived(kept, "failed")) == 996


def test_a_crash_between_line_and_removal_repeats_the_line(kept, leader, archivist, monkeypatch):
    """And loses nothing: readers tell records by their run_id. A Redis that failed is left alone for a moment."""
    fill(kept, leader, 5)
    with monkeypatch.context() as patch:
        patch.setattr(kept.runs, "trim", lambda *_: (_ for _ in ()).throw(StoreError("cut")))
        for _ in range(3):
            archivist.work()
    assert numbers(kept) == ([0, 1], [0, 1, 2, 3, 4])

    Archivist(kept, leader).work()

    assert numbers(kept) == ([0, 1, 0, 1], [2, 3, 4])


def test_a_disk_that_refuses_has_nothing_removed_and_is_told_once(kept, leader, archivist, monkeypatch, caplog):
    """It is tried again later, not with each run; once there is a place, everything goes there."""
    kept.settings.archive_dir.write_text("in its place")
    fill(kept, leader, 5)

    with caplog.at_level(logging.ERROR):
        for _ in range(20):
            archivist.work()

    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "stay in Redis" in caplog.text
    assert kept.runs.count() == kept.letters.count() == 5
    kept.settings.archive_dir.unlink()
    monkeypatch.setattr(archiving.system_clock, "monotonic", later(archiving.REFUSED_SECONDS + 1))
    assert archivist.step()
    assert numbers(kept) == ([0, 1], [2, 3, 4])


def later(seconds):
    real = archiving.system_clock.monotonic
    return lambda: real() + seconds


def test_a_deposed_conductor_removes_nothing(kept, leader, archivist):
    """What it archived, its successor archives as well."""
    fill(kept, leader, 5)
    leader.token -= 1

    with pytest.raises(FencedError):
        archivist.work()

    assert kept.runs.count() == 5


def test_a_record_that_others_removed_does_not_hold_the_rest_up(kept, leader, archivist):
    """Its id goes, without a line."""
    fill(kept, leader, 5)
    kept.client.hdel(kept.keys.records, kept.runs.history(10)[-1])

    archivist.work()

    assert numbers(kept) == ([1], [2, 3, 4])
