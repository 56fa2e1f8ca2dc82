"""The archive: a line per entry, on disk before anything is removed, private, complete after trouble."""

from __future__ import annotations

import os
import stat

import pytest

from rlm.core.errors import ArchiveError
from rlm.ledger import letters

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
