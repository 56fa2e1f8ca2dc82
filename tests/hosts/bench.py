"""An installation of RLM over several hosts: Redis, the strict API, the hosts, and a desk for commands."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.hosts.api import SeenCall
from tests.hosts.net import Network
from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Self

    from tests.hosts.net import Port

_API = Path(__file__).with_name("api.py")
#: The root of the tested project: this one, or another version's.
_ROOT = Path(os.environ.get("RLMBENCH_PROJECT") or Path(__file__).parents[2])
_SKEW = Path(__file__).with_name("skew.c")
_PASSWORD = "of-the-bench"
_API_PORT = 8090
#: Seconds before a tick at which everything is pushed.
_LEAD = 3.0


@dataclass(frozen=True)
class Layout:
    """The layout of the installation: a window is a tenth of a real one, all times in seconds."""

    types: int = 5
    endpoints: int = 4
    amount: int = 30
    period: float = 6.0
    takes: float = 0.2
    window: float = 18.0
    guard: float = 0.5
    workers: int = 20
    threads: int = 5
    timeout: float = 10.0
    target: float = 0.75

    def endpoint_names(self, kind: str) -> list[str]:
        return [f"{kind.lower()}-{number}" for number in range(1, self.endpoints + 1)]

    @property
    def type_names(self) -> list[str]:
        return [f"T{number}" for number in range(1, self.types + 1)]

    def toml(self, redis_url: str, api_hosts: Sequence[str]) -> str:
        """Return the configuration file; the endpoints of a type use the API's names in turn."""
        lines = [
            f'[redis]\nurl = "{redis_url}"',
            f"[run]\nwindow_seconds = {self.window}\ntarget = {self.target}",
            f"every_seconds = {self.window}\nguard_seconds = {self.guard}",
            f"[workers]\nmax = {self.workers}\nthreads = {self.threads}",
            f"[retry]\ntimeout_seconds = {self.timeout}",
        ]
        for kind in self.type_names:
            urls = [
                f'{{ name = "{name}", url = "http://{api_hosts[at % len(api_hosts)]}:{_API_PORT}/{name}" }}'
                for at, name in enumerate(self.endpoint_names(kind))
            ]
            rate = f"{self.amount} per {self.period:g} second"
            table = f'processing_seconds = {self.takes}\nrate_limit = "{rate}"\nendpoints = [ {", ".join(urls)} ]'
            lines.append(f"[types.{kind}]\n{table}")
        return "\n".join(lines) + "\n"


class Machine:
    """A machine on which processes of RLM run; `env` is additional environment."""

    def __init__(self, port: Port, directory: Path, toml: str, env: Mapping[str, str]) -> None:
        self.port, self.directory, self.env = port, directory, dict(env)
        directory.mkdir()
        self.config = directory / "rlm.toml"
        self.config.write_text(toml)
        self.started: dict[str, subprocess.Popen[bytes]] = {}

    @property
    def name(self) -> str:
        return self.port.name

    def command(self, *arguments: str) -> list[str]:
        return self.port.command(sys.executable, "-m", "rlm", *arguments, "--config", str(self.config))

    def environment(self) -> dict[str, str]:
        clock = {"LD_PRELOAD": self.wrong_clock()} if "CLOCK_OFF" in self.env else {}
        return {**os.environ, "PYTHONPATH": str(_ROOT), "RLM_LOG_FORMAT": "text", **self.env, **clock}

    def wrong_clock(self) -> str:
        library = self.directory / "skew.so"
        if not library.exists():
            subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", library, _SKEW, "-ldl"], check=True)
        return str(library)

    def start(self, name: str) -> None:
        """Start `rlm NAME`; its log is NAME.log in the host's directory."""
        with (self.directory / f"{name}.log").open("ab") as log:
            self.started[name] = subprocess.Popen(
                self.command(name),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env=self.environment(),
                start_new_session=True,
            )

    def log(self, name: str) -> str:
        file = self.directory / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""


class HostBench:
    """The running installation: `hosts` by name, `desk`, `redis` and `api` as places in the network."""

    def __init__(
        self,
        directory: Path,
        layout: Layout | None = None,
        *,
        hosts: int = 3,
        env: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.directory, self.layout = directory, layout or Layout()
        self.names = [f"host{number}" for number in range(1, hosts + 1)]
        self.network = Network(["redis", "api", "desk", *self.names], {"api": 1})
        self.redis, self.api = self.network.ports["redis"], self.network.ports["api"]
        for number, address in enumerate(self.api.addresses, start=1):
            self.network.name(f"api{number}.bench", address)
        self.env = env or {}
        self.apis = [f"api{number}.bench" for number in range(1, len(self.api.addresses) + 1)]
        url = f"redis://:{_PASSWORD}@{self.redis.address}:6379/0"
        toml = self.layout.toml(url, self.apis)
        self.hosts = {name: self.host(name, toml) for name in self.names}
        self.desk = self.host("desk", toml)
        #: The events that were pushed, and when.
        self.pushed: dict[str, float] = {}
        self.servers: list[subprocess.Popen[bytes]] = []

    def host(self, name: str, toml: str) -> Machine:
        return Machine(self.network.ports[name], self.directory / name, toml, self.env.get(name, {}))

    def __enter__(self) -> Self:
        try:
            self.start_servers()
            for host in self.hosts.values():
                host.start("scheduler")
                host.start("supervisor")
            wait_until(self.all_there, timeout=60, message="every host has a scheduler and a supervisor")
        except BaseException:
            self.network.close()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.network.close()
        for process in (*self.servers, *(one for host in self.hosts.values() for one in host.started.values())):
            process.wait()

    def start_servers(self) -> None:
        data = self.directory / "redis"
        data.mkdir()
        options = (
            f"--bind {self.redis.address} --requirepass {_PASSWORD} --appendonly yes --maxmemory-policy noeviction"
        )
        self.serve(self.redis, "redis-server", *options.split(), "--save", "", "--dir", str(data))
        layout = self.layout
        self.api_log.touch()
        measures = (layout.amount, layout.period, layout.takes)
        arguments = (",".join(self.api.addresses), _API_PORT, self.api_log, *measures)
        self.serve(self.api, sys.executable, str(_API), *map(str, arguments))
        wait_until(lambda: self.redis_cli("ping") == "PONG", timeout=20, message="Redis answers")

    def serve(self, port: Port, *command: str) -> None:
        with (self.directory / f"{port.name}.log").open("ab") as log:
            options = {"stdout": log, "stderr": log, "stdin": subprocess.DEVNULL, "start_new_session": True}
            self.servers.append(subprocess.Popen(port.command(*command), cwd=_ROOT, **options))

    def all_there(self) -> bool:
        """Return whether all are ready, by the logs only, so that a version without hosts can be judged too."""
        return all(host.log("scheduler") and host.log("supervisor") for host in self.hosts.values())

    @property
    def api_log(self) -> Path:
        return self.directory / "calls.jsonl"

    def calls(self) -> list[SeenCall]:
        """Return the API's calls, in order of arrival."""
        lines = self.api_log.read_text().rpartition("\n")[0].splitlines()  # the last may not be written whole yet
        return sorted((SeenCall(**json.loads(line)) for line in lines), key=lambda call: call.at)

    def wait_for_calls(self, host: str, since: float) -> None:
        """Wait until the API has just answered a call of a host that came after `since`: others are in flight then."""
        address = self.hosts[host].port.address
        wait_until(
            lambda: any(call.at > since and call.host == address for call in self.calls()),
            timeout=self.layout.window,
            message=f"{host} makes calls",
        )

    # -- commands

    def redis_cli(self, *arguments: str, given: str = "") -> str:
        command = self.redis.command("redis-cli", "-h", self.redis.address, "--no-auth-warning", "-a", _PASSWORD)
        told = subprocess.run([*command, *arguments], input=given, capture_output=True, text=True, check=False)
        return told.stdout.strip()

    def rlm(self, *arguments: str, given: str = "", timeout: float = 60.0) -> Any:
        """Run a command at the desk and return its JSON; None if it printed none."""
        done = subprocess.run(
            self.desk.command(*arguments, "--json"),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.desk.directory,
            env=self.desk.environment(),
            timeout=timeout,
        )
        with suppress(ValueError):
            return json.loads(done.stdout)
        with (self.directory / "desk.log").open("a") as log:
            log.write(f"{' '.join(arguments)}: exit {done.returncode}: {done.stdout[-300:]}{done.stderr[-500:]}\n")
        return None

    def push(self, events: int, label: str) -> None:
        """Push `events` items of one event each, with the types in turn."""
        names = self.layout.type_names
        items = [
            {"id": f"{label}-{number}", "wallet_name": "w", "events": [names[number % len(names)]]}
            for number in range(events)
        ]
        words = [("LPUSH", "wallet_audit_events", json.dumps(item)) for item in items]
        told = self.redis_cli("--pipe", given="".join(_protocol(*one) for one in words))
        assert "errors: 0" in told, told
        self.pushed.update((f"{item['id']}:{item['events'][0]}", time.time()) for item in items)

    def next_tick(self, after: float | None = None) -> float:
        """Return the first tick that is at or after `after`, by default now."""
        return math.ceil((time.time() if after is None else after) / self.layout.window) * self.layout.window

    def push_for_tick(self, events: int, label: str) -> float:
        """Push shortly before a tick, and return the time of the tick."""
        tick = self.next_tick(time.time() + _LEAD)
        sleep_until(tick - _LEAD)
        self.push(events, label)
        return max(tick, self.next_tick())

    def records(self) -> list[dict[str, Any]]:
        """Return the records of the finished runs, oldest first."""
        listed = self.rlm("list", "1000") or []
        open_states = {"draining", "planning", "running", "finishing"}
        return [self.rlm("result", one["run_id"]) for one in reversed(listed) if one["state"] not in open_states]

    def left(self) -> tuple[int, int]:
        """Return the number of unfinished events, and of dead letters; -1 for both if it is unknown."""
        stats = self.rlm("queue", "stats")
        if stats is None:
            return -1, -1
        return sum(stats[name] for name in ("events", "staged", "processing", "leftover")), stats["failed"]


def _protocol(*words: str) -> str:
    """Return a command in the protocol of Redis; all words are ASCII."""
    return f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)


def sleep_until(moment: float) -> None:
    """Sleep until a time of day: for the course of a trial, never to wait for an expected event."""
    time.sleep(max(0.0, moment - time.time()))


def freeze(port: Port, *, seconds: float) -> None:
    """Stop every process on a machine for `seconds`."""
    port.signal(signal.SIGSTOP)
    time.sleep(seconds)
    port.signal(signal.SIGCONT)
