"""Dead letters beyond those that Redis keeps: none leaves Redis before it is on disk, whatever fails."""

from __future__ import annotations

import json
import logging
import os
import stat

import pytest

from rlm.core.errors import ArchiveError, StoreError
from rlm.ledger import letters
from rlm.ledger import letters as archiving
from rlm.ledger.letters import Letters
from tests.store import steps


@pytest.fixture
def bounded(make_store, tmp_path, monkeypatch):
    """A store that keeps 4 letters, with its archive in this test's directory."""
    monkeypatch.setattr(archiving, "MOST_LETTERS", 4)
    return make_store(archive={"directory": str(tmp_path / "archive")})


def fill(store, number):
    store.client.lpush(store.keys.failed, *[json.dumps({"id": index}) for index in range(number)])


def archived(store):
    files = sorted(store.settings.archive_dir.glob("failed-*"))
    return [json.loads(line)["id"] for path in files for line in path.read_text().splitlines()]


def test_what_is_more_is_archived_and_then_removed_in_chunks(bounded, token):
    """The newest stay; none is twice, none missing."""
    fill(bounded, 1000)

    while bounded.letters.archive_some():
        continue

    assert archived(bounded) == [*range(996)]
    assert bounded.client.lrange(bounded.keys.failed, 0, -1) == [b'{"id": %d}' % one for one in (999, 998, 997, 996)]


@pytest.mark.rest
def test_the_bound_is_kept_while_letters_are_written(bounded, token):
    """By a drain, chunk by chunk, and where a type is no longer configured."""
    steps.push(bounded, *[b"bad"] * 500, *steps.items(500, steps.TYPE))
    run, most = steps.open_run(bounded, token), 0

    for _ in bounded.intake.drain(token, run.id, steps.priorities(bounded)):
        most = max(most, bounded.letters.count())
    assert most <= 4 + 100
    bounded.ledger.fail_unknown(token, run.id, steps.TYPE, lambda: bounded.letters.count() <= 4 + 200)
    bounded.letters.archive_some()

    assert bounded.letters.count() == 4
    assert len(set(archived(bounded))) == len(archived(bounded)) == 996


def test_a_crash_between_line_and_removal_repeats_the_line(bounded, token, monkeypatch):
    """And loses nothing: readers tell letters by their id."""
    fill(bounded, 6)
    written = Letters(bounded)
    with monkeypatch.context() as patch:
        patch.setattr(written, "trim", lambda *_: (_ for _ in ()).throw(StoreError("cut")))
        with pytest.raises(StoreError):
            written.archive_some()
    assert archived(bounded) == [0, 1]

    written.archive_some()

    assert archived(bounded) == [0, 1, 0, 1]
    assert bounded.letters.count() == 4


def test_a_disk_that_refuses_has_nothing_removed_and_no_more_written(bounded, token, monkeypatch, caplog):
    """It is said once, and the drain leaves what would become letters where it is until the disk takes them."""
    bounded.settings.archive_dir.write_text("in its place")
    steps.push(bounded, *[b"bad"] * 500, *steps.items(1, steps.TYPE))
    run = steps.open_run(bounded, token)

    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            steps.drain(bounded, token, run)

    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "Dead letters stay in Redis, and no more items are taken" in caplog.text
    assert bounded.letters.count() == 100
    assert sum(bounded.intake.lengths()) == 401
    bounded.settings.archive_dir.unlink()
    real = archiving.system_clock.monotonic
    monkeypatch.setattr(archiving.system_clock, "monotonic", lambda: real() + archiving.REFUSED_SECONDS + 1)
    assert steps.drain(bounded, token, run) == 1
    assert sum(bounded.intake.lengths()) == 0


NOVEMBER = 1_795_600_000.0


@pytest.fixture
def directory(tmp_path):
    return tmp_path / ".rlm" / "archive"


def lines(path):
    return path.read_bytes().split(b"\n")[:-1]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_may_read_it(directory):
    """Items may hold what is private: directories of mode 0700, files of mode 0600, whatever the umask."""
    before = os.umask(0)
    try:
        path = letters.archive(directory, [b"{}"], NOVEMBER)
    finally:
        os.umask(before)

    assert (mode(path), mode(path.parent), mode(path.parent.parent)) == (0o600, 0o700, 0o700)


def test_a_line_that_a_crash_cut_short_stays_by_itself(directory):
    """What comes after it is whole."""
    path = letters.archive(directory, [b'{"id": 1}'], NOVEMBER)
    with path.open("ab") as file:
        file.write(b'{"run_i')

    letters.archive(directory, [b'{"id": 2}'], NOVEMBER)

    assert lines(path) == [b'{"id": 1}', b'{"run_i', b'{"id": 2}']


def test_no_link_is_followed(directory, tmp_path):
    """Nobody has RLM write into another file."""
    directory.mkdir(parents=True)
    target = tmp_path / "target"
    target.write_bytes(b"")
    (directory / "failed-2026-11.jsonl").symlink_to(target)

    with pytest.raises(ArchiveError):
        letters.archive(directory, [b"{}"], NOVEMBER)

    assert target.read_bytes() == b""
