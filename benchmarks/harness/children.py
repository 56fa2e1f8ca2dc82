"""Processes that a benchmark starts in their own sessions, and ends by their ids; one is a private Redis."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from rlm.ledger.embedded.process import binary_path
from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: The directory from which programs of the benchmarks are run as modules.
ROOT = Path(__file__).parents[2]
#: Seconds that a process may take to exit.
LEAVING_SECONDS = 15.0


@contextmanager
def running(
    command: list[str], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` with its output appended to `log`; on leaving, tell it to end, and kill it if it does not."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=output,
            start_new_session=True,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything left of its session."""
    if process.poll() is None:
        process.terminate()
    with suppress(subprocess.TimeoutExpired):
        process.wait(LEAVING_SECONDS)
    with suppress(ProcessLookupError):  # usually nobody is left
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdin:
        with suppress(OSError):
            process.stdin.close()


@contextmanager
def private_redis(directory: Path, appendfsync: str = "") -> Iterator[str]:
    """Run a server; yield its URL. It writes nothing to its disk, unless `appendfsync` is given."""
    port = free_port()
    kept = ["--appendonly", "yes", "--appendfsync", appendfsync] if appendfsync else ["--appendonly", "no"]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", *kept, "--dir", str(directory)]
    with running([str(binary_path()), *options], directory / "redis.log"):
        with redis.Redis(port=port) as client:
            wait_until(lambda: _answers(client), message="the private Redis answers")
        yield f"redis://127.0.0.1:{port}/0"


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
