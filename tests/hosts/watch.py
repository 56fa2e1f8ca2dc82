"""What an operator would have read, and when: status and doctor queried repeatedly.

It also counts the processes of the hosts, whatever RLM says of them.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

    from tests.hosts.bench import HostBench

_ASKER = Path(__file__).with_name("asker.py")
#: States of a host, a worker or a supervisor without a problem.
_WELL = frozenset({"ready", "starting", "draining", "stopping"})
#: Words that state a problem of a host in a sentence.
_WORDS = ("lost", "sleep", "silent", "not heard", "no endpoint")


@dataclass
class Observer:
    """Watches until the block ends; `seen` has (time, command, document)."""

    bench: HostBench
    seen: list[tuple[float, str, Any]] = field(default_factory=list)
    #: The times and numbers of living worker processes on each host.
    workers: list[tuple[float, dict[str, int]]] = field(default_factory=list)

    def __enter__(self) -> Self:
        self.over = threading.Event()
        desk = self.bench.desk
        asker = desk.port.command(sys.executable, str(_ASKER), str(desk.config), "doctor", "status")
        self.asker = self.open(asker)
        self.threads = [threading.Thread(target=each) for each in (self.ask, self.count)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.over.set()
        self.asker.kill()
        self.asker.wait()
        for thread in self.threads:
            thread.join()
        self.asker.communicate()

    def open(self, command: list[str]) -> subprocess.Popen[bytes]:
        desk = self.bench.desk
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen(command, cwd=desk.directory, env=desk.environment(), start_new_session=True, **streams)

    def ask(self) -> None:
        for line in self.asker.stdout or ():
            asked, command, document = json.loads(line)
            self.seen.append((asked, command, document))

    def count(self) -> None:
        while not self.over.wait(0.25):
            hosts = self.bench.hosts.values()
            self.workers.append((time.time(), {host.name: sum(map(_works, host.port.pids())) for host in hosts}))

    def most_workers(self) -> int:
        """Return the most simultaneous worker processes."""
        return max((sum(hosts.values()) for _, hosts in self.workers), default=0)

    def named(self, host: str, since: float) -> dict[str, float]:
        """Return how many seconds after `since` each command first named a host as having a problem."""
        first: dict[str, float] = {}
        for at, command, document in self.seen:
            if at > since and command not in first and troubles(document, host):
                first[command] = round(at - since, 1)
        return first

    def cleared(self, host: str, since: float) -> dict[str, float]:
        """Return how many seconds after `since` each command last named it so."""
        last: dict[str, float] = {}
        for at, command, document in self.seen:
            if at > since and troubles(document, host):
                last[command] = round(at - since, 1)
        return last

    def dump(self) -> None:
        """Write everything to the other evidence."""
        with (self.bench.directory / "watched.jsonl").open("w") as file:
            file.writelines(json.dumps(one) + "\n" for one in self.seen)
            file.writelines(json.dumps([at, "workers", hosts]) + "\n" for at, hosts in self.workers)


def _works(pid: int) -> bool:
    with suppress(OSError):
        return b"worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    return False


def troubles(document: Any, host: str) -> list[str]:
    """Return the problems of a host in a document, in its words."""
    return list(_troubles(document, host))


def _troubles(document: Any, host: str) -> Iterator[str]:
    if isinstance(document, dict):
        state = document.get("state", document.get("health"))
        about = host in {document.get("host"), document.get("name")} and isinstance(state, str)
        if about and (state not in _WELL or document.get("sleeping")):
            yield str(state)
        if document.get("verdict") == "ok":  # a finding of the doctor that found nothing
            return
        for value in document.values():
            yield from _troubles(value, host)
    elif isinstance(document, list):
        for value in document:
            yield from _troubles(value, host)
    elif isinstance(document, str) and host in document and any(word in document for word in _WORDS):
        yield document
