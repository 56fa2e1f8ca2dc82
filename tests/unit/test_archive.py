"""The archive: a line per entry, on disk before anything is removed, private, complete after trouble."""

from __future__ import annotations

import json
import os
import resource
import stat
from contextlib import contextmanager

import pytest

from rlm.core.errors import ArchiveError
from rlm.ledger.archive import Archive

NOVEMBER, DECEMBER = 1_795_600_000.0, 1_797_000_000.0


@pytest.fixture
def archive(tmp_path):
    return Archive(tmp_path / ".rlm" / "archive")


def lines(path):
    return path.read_bytes().split(b"\n")[:-1]


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def disk_that_takes(number):
    """Let no file of this process exceed `number` bytes: a longer write is partial, then refused."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (number, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_nobody_else_may_read_it(archive):
    """Items may hold what is private: directories of mode 0700, files of mode 0600, whatever the umask."""
    before = os.umask(0)
    try:
        path = archive.append([b"{}"], NOVEMBER)
    finally:
        os.umask(before)

    assert (mode(path), mode(path.parent), mode(path.parent.parent)) == (0o600, 0o700, 0o700)


def test_a_line_that_a_crash_cut_short_stays_by_itself(archive):
    """What comes after it is whole."""
    path = archive.append([b'{"id": 1}'], NOVEMBER)
    with path.open("ab") as file:
        file.write(b'{"run_i')

    archive.append([b'{"id": 2}'], NOVEMBER)

    assert lines(path) == [b'{"id": 1}', b'{"run_i', b'{"id": 2}']


def test_what_a_full_disk_took_of_a_chunk_is_cut_off_again(archive):
    """Nothing of it is archived; once there is room, all of it is."""
    path = archive.append([b'{"id": 1}'], NOVEMBER)
    entries = [json.dumps({"id": number}).encode() for number in range(2, 50)]

    with disk_that_takes(100), pytest.raises(ArchiveError, match="cannot be written"):
        archive.append(entries, NOVEMBER)

    assert lines(path) == [b'{"id": 1}']
    archive.append(entries, NOVEMBER)
    assert [json.loads(line)["id"] for line in lines(path)] == list(range(1, 50))


def test_no_link_is_followed(archive, tmp_path):
    """Nobody has RLM write into another file."""
    archive.directory.mkdir(parents=True)
    target = tmp_path / "target"
    target.write_bytes(b"")
    (archive.directory / "failed-2026-11.jsonl").symlink_to(target)

    with pytest.raises(ArchiveError):
        archive.append([b"{}"], NOVEMBER)

    assert target.read_bytes() == b""
