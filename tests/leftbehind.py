"""The check that a command left nothing behind: no process, socket or lock in its directory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rlm.ledger.embedded import running, socket_path
from tests.wait import wait_until


def processes_of(place: Path) -> dict[int, str]:
    """Return the processes, except this one, that belong to `place`, and the evidence for each.

    Environment and command line are not enough, because a process that sets its title overwrites both. It cannot hide
    its working directory and its open files: its log, the locks and the socket of the server.
    """
    others = (process for process in Path("/proc").iterdir() if process.name.isdigit())
    clues = {int(process.name): _clue(process, str(place)) for process in others if int(process.name) != os.getpid()}
    return {pid: clue for pid, clue in clues.items() if clue}


def _clue(process: Path, place: str) -> str:
    for name in ("cmdline", "environ"):
        if place.encode() in _read(process / name):
            return f"its {name}: {_command(process)}"
    for link in (process / "cwd", *_entries(process / "fd")):
        if (target := _target(link)).startswith(place):
            return f"its {link.parent.name} {target}: {_command(process)}"
    return ""


def _command(process: Path) -> str:
    return _read(process / "cmdline").replace(b"\0", b" ").decode(errors="replace").strip()


def _read(file: Path) -> bytes:
    with suppress(OSError):  # it has ended, or is not ours
        return file.read_bytes()
    return b""


def _entries(directory: Path) -> list[Path]:
    with suppress(OSError):
        return list(directory.iterdir())
    return []


def _target(link: Path) -> str:
    with suppress(OSError):
        return str(link.readlink())
    return ""


@contextmanager
def nothing_left_behind(place: Path, *, timeout: float = 5.0) -> Iterator[None]:
    """Check that processes started in the block leave no process, socket or server that belongs to `place`."""
    before = processes_of(place)
    yield

    def left() -> dict[int, str]:
        return {pid: clue for pid, clue in processes_of(place).items() if pid not in before}

    with suppress(AssertionError):
        wait_until(lambda: not left(), timeout=timeout)
    assert left() == {}, "processes are left behind"
    for data_dir in place.rglob(".rlm"):
        assert not socket_path(data_dir.resolve()).exists(), f"the socket of {data_dir} is left behind"
        assert not running(data_dir), f"a server still runs in {data_dir}"
