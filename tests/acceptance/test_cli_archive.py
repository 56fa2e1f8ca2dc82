"""What commands say about the archive: where older records and letters are, its size, whether it works."""

from __future__ import annotations

import json

import pytest

from rlm.admin.doctor.host import ARCHIVED_SOON, check_archive
from rlm.core.clock import system_clock
from rlm.ledger.archive import Archive, ArchiveKind
from tests.acceptance.cli import Installation
from tests.acceptance.test_cli_doctor import findings
from tests.store import steps
from tests.unit.test_archive import disk_that_takes


@pytest.fixture
def inst(tmp_path, valkey_only_url):
    with Installation(tmp_path, valkey_only_url, "failed_max = 1\n[run]\nhistory = 1\n") as made:
        yield made


@pytest.fixture
def archive(inst):
    """The archive of that installation, with a record and a letter in it."""
    archive = Archive(inst.settings.archive_dir)
    archive.append(ArchiveKind.RECORDS, [b'{"run_id": "old"}'], system_clock.now())
    archive.append(ArchiveKind.FAILED, [b'{"id": "old"}'], system_clock.now())
    return archive


@pytest.mark.parametrize(
    ("command", "code", "kind"),
    [
        (("result", "old"), 3, ArchiveKind.RECORDS),
        (("status", "old"), 3, ArchiveKind.RECORDS),
        (("failed", "show", "old"), 3, ArchiveKind.FAILED),
        (("failed", "list"), 0, ArchiveKind.FAILED),
    ],
)
def test_who_looks_for_an_archived_one_is_told_where_it_is(inst, archive, command, code, kind):
    """The files are named, and RLM does not read them."""
    told = inst.rlm(*command, code=code).output

    assert f"Older ones are in {archive.directory}/{kind}-*.jsonl." in told


def test_the_list_of_runs_ends_with_where_older_ones_are(inst, archive):
    """Where it shows all there are; not in JSON."""
    inst.close_run(inst.start_run())
    (run_id,) = inst.store.runs.history(5)
    record = steps.record_of() | {
        "run_id": run_id,
        "state": "completed",
        "duration_seconds": 1.0,
        "counts": dict.fromkeys(("taken", "carried_over", "completed", "failed", "leftover"), 0),
    }
    inst.store.client.hset(inst.store.keys.records, run_id, json.dumps(record))

    assert "Older ones are in" in inst.rlm("list").output
    assert "Older ones are in" not in inst.rlm("list", "1").output
    assert len(inst.json("list")) == 1


def test_doctor_tells_how_large_it_is(inst, archive):
    """Its files are the operator's to move or delete."""
    found = findings(inst.json("doctor"))["archive"]

    assert found["ok"]
    assert found["message"] == f"2 files of 0.0 MB in {archive.directory}"


def test_doctor_tells_where_it_will_be(inst):
    """Nothing was archived yet, and no directory made."""
    found = findings(inst.json("doctor"))["archive"]

    assert found["ok"]
    assert str(inst.settings.archive_dir) in found["message"]
    assert not inst.settings.archive_dir.exists()


def test_doctor_tells_what_waits_to_be_archived(inst):
    """A disk that refuses is found out though the scheduler's log is elsewhere."""
    inst.store.client.lpush(inst.store.keys.failed, *[b"{}"] * 10)

    found = findings(inst.json("doctor"))["archive"]

    assert (found["ok"], found["severity"]) == (False, "warning")
    assert found["message"] == "9 dead letters more than Redis should keep wait there to be archived"
    assert "make room" in found["remedy"]


def test_what_a_run_adds_may_wait_for_its_end(inst):
    """That is no warning, but for more than any one run adds; the number is told all the same."""
    inst.start_run()
    inst.store.client.lpush(inst.store.keys.failed, *[b"{}"] * 10)
    few = findings(inst.json("doctor"))["archive"]
    inst.store.client.lpush(inst.store.keys.failed, *[b"{}"] * ARCHIVED_SOON["dead letter"])
    many = findings(inst.json("doctor"))["archive"]

    assert few["ok"]
    assert few["message"].endswith("; 9 dead letters more than Redis should keep wait there to be archived")
    assert not many["ok"]


def test_doctor_tells_of_a_place_that_cannot_be_written(inst):
    """A file stands where the directory is to be; how many wait is told with it."""
    inst.store.client.lpush(inst.store.keys.failed, *[b"{}"] * 10)
    inst.settings.archive_dir.parent.mkdir(exist_ok=True)
    inst.settings.archive_dir.write_text("")

    found = findings(inst.json("doctor", code=1))["archive"]

    assert (found["ok"], found["severity"]) == (False, "warning")
    assert "cannot be written to (Not a directory); 9 dead letters more than" in found["message"]


def test_doctor_tells_of_a_full_disk(inst, archive):
    """Nothing but the attempt to write finds it out; the attempt leaves nothing behind."""
    before = sorted(archive.directory.iterdir())
    with disk_that_takes(0):
        (found,) = check_archive(inst.store)

    assert not found.ok
    assert found.message == f"{archive.directory} cannot be written to (File too large)"
    assert sorted(archive.directory.iterdir()) == before


def test_a_push_into_a_redis_that_is_nearly_full_is_warned_of(inst, monkeypatch):
    """It is taken; the next may be refused."""
    from rlm.ledger import fitness

    real = fitness.judge
    full = {"maxmemory": 1000, "used_memory": 950}
    monkeypatch.setattr(fitness, "judge", lambda info, *args, **options: real({**info, **full}, *args, **options))

    told = inst.rlm("queue", "push", input='{"id": "1", "wallet_name": "w", "events": ["REBALANCE_NEEDED"]}').output

    assert "Warning: Redis is nearly full: 95% of its memory is used" in told
    assert inst.store.intake.waiting() == 1
