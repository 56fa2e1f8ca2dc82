"""The archivist: nothing leaves Redis before it is on disk, whatever fails, and no more is kept than the bounds."""

from __future__ import annotations

import base64
import json
import logging

import pytest
from redis.exceptions import NoPermissionError

from rlm.admin.doctor.host import check_archive
from rlm.core.errors import FencedError, StoreError
from scheduler import housekeeping as archiving
from scheduler.housekeeping import Archivist
from scheduler.leader import Leader
from tests.store import steps
from tests.values import as_json, record_from


@pytest.fixture
def kept(make_store, tmp_path):
    """A store that keeps 3 records and 4 letters, with its archive in this test's directory."""
    return make_store(run={"history": 3}, queue={"failed_max": 4}, archive={"directory": str(tmp_path / "archive")})


@pytest.fixture
def leader(kept):
    leader = Leader(kept.leases, "here")
    assert leader.campaign()
    return leader


@pytest.fixture
def archivist(kept, leader):
    return Archivist(kept, leader)


def fill(store, leader, number, *, first=0):
    """Close `number` runs, each with its number, and write as many letters, each with its own."""
    for index in range(first, first + number):
        run = steps.open_run(store, leader.token)
        steps.finish(store, leader.token, run)
        store.runs.close(run.id, record_from(run_id=run.id, number=index), [], wanted=0)
        store.client.lpush(store.keys.failed, json.dumps({"id": f"letter {index}"}))


def archived(store, kind):
    files = sorted(store.settings.archive_dir.glob(f"{kind}-*"))
    return [json.loads(line) for path in files for line in path.read_text().splitlines()]


def numbers(store):
    """The numbers of the archived records, then of those in Redis, oldest first."""
    in_redis = [as_json(store.runs.record(run_id))["number"] for run_id in reversed(store.runs.history(10_000))]
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


def test_letters_are_bounded_in_bytes_as_well(make_store, leader, tmp_path):
    """However few they are: the newest stay, up to the bound, and none is lost or there twice."""
    queue, archive = {"failed_max_bytes": 1_000_000}, {"directory": str(tmp_path / "archive")}
    store = make_store(queue=queue, archive=archive)
    for index in range(40):
        store.client.lpush(store.keys.failed, json.dumps({"id": index, "item": "x" * 60_000}))

    archivist = Archivist(store, leader)
    while archivist.step():
        continue

    kept = [json.loads(raw)["id"] for raw in store.client.lrange(store.keys.failed, 0, -1)]
    assert 14 <= len(kept) <= 16
    assert [one["id"] for one in archived(store, "failed")] + kept[::-1] == list(range(40))
    assert store.letters.held_bytes() <= 1_000_000


def test_without_leave_to_ask_only_their_number_is_bounded(kept, leader, archivist, monkeypatch):
    """As by the user of Redis that an earlier page wrote out; `rlm doctor` says so."""
    monkeypatch.setattr(kept.client, "memory_usage", refuse)
    fill(kept, leader, 6)

    archivist.work()

    assert kept.letters.count() == 4
    assert [one.message for one in check_archive(kept) if not one.ok] == [
        "queue.failed_max_bytes is not enforced: MEMORY USAGE is forbidden"
    ]


def refuse(*_args, **_options):
    raise NoPermissionError("NOPERM")


def test_doctor_warns_of_an_archive_that_it_may_not_look_at(make_store, monkeypatch):
    """As below a directory that is closed to this user."""

    def closed(_self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("rlm.admin.doctor.host.Path.exists", closed)
    (found,) = [one for one in check_archive(make_store()) if not one.ok]

    assert "cannot be read: Permission denied" in found.message


def test_doctor_warns_of_letters_that_take_too_much(make_store):
    """While no run is open, after which they are archived."""
    store = make_store(queue={"failed_max_bytes": 1_000_000})
    store.client.lpush(store.keys.failed, b"x" * 2_050_000)

    (found,) = [one for one in check_archive(store) if not one.ok]

    assert found.message == "dead letters take 2.1 MB of Redis, more than 1.0 (queue.failed_max_bytes)"


def test_a_foreign_giant_is_archived_whole_in_pieces(kept, leader, archivist):
    """What nobody could read at once is on disk as base64, and what stood around it as ever."""
    giant = bytes(range(256)) * 20_000
    kept.client.lpush(kept.keys.failed, b'{"id": 1}', giant, *[json.dumps({"id": index}) for index in range(2, 7)])

    while archivist.step():
        continue

    first, *others = archived(kept, "failed")
    assert base64.b64decode(first["base64"]) == giant
    assert others == [{"id": 1}, {"id": 2}]
    assert kept.letters.count() == 4
    assert not kept.client.exists(kept.keys.aside(kept.keys.failed))


def test_a_redis_that_fails_amid_a_giant_leaves_no_line(kept, leader, archivist, monkeypatch):
    """It is archived again, whole, once Redis answers."""
    kept.client.lpush(kept.keys.failed, b"G" * 3_000_000, *[json.dumps({"id": index}) for index in range(4)])

    def pieces(_giant):
        yield b"GGG"
        raise StoreError("cut")

    with monkeypatch.context() as patch:
        patch.setattr(kept.letters, "pieces", pieces)
        archivist.work()
    assert archived(kept, "failed") == []

    again = Archivist(kept, leader)
    while again.step():
        continue
    assert [base64.b64decode(one["base64"]) for one in archived(kept, "failed")] == [b"G" * 3_000_000]


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
