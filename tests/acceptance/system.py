"""A whole RLM for a test: a strict API, an embedded server, a scheduler and a supervisor, as real processes."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

from rlm.ledger.books import books
from rlm.ledger.processes import Role
from rlm.ledger.store import Store
from rlm.sandbox.stage import demo_document
from rlm.settings import load_settings
from tests.acceptance.faultyapi import FaultyApi, exceeded
from tests.values import as_json
from tests.wait import wait_until

#: Seconds between two ticks for tests without ticks.
A_DAY = 86_400


class System:
    """One installation in `directory`, its time divided by `speed`; `env` overrides settings like `RLM_X__Y`.

    The types are the built-in ones, or those of `document`, a configuration file in real time. Runs start on request,
    and with `ticks` also at every window: otherwise an early tick could take what a test is still pushing.

    With `redis_url` it uses that Redis, instead of an embedded server of its own; `redis_of` returns the URL by which a
    process, given by name, reaches it: through a proxy. `front` gets the API's URL and returns the URL that the workers
    call. `env_of` returns additional environment of a process, given by name.
    """

    def __init__(
        self,
        directory: Path,
        *,
        speed: float = 10.0,
        env: Mapping[str, str] | None = None,
        ticks: bool = False,
        document: str = "",
        redis_url: str = "",
        redis_of: Mapping[str, str] | None = None,
        front: Callable[[str], str] | None = None,
        env_of: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self.directory = directory
        self.config = directory / "rlm.toml"
        self.speed = speed
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        #: The ids of all events that were ever pushed here.
        self.pushed: set[str] = set()
        #: When events were pushed, seconds since 1970, and how many.
        self.pushes: list[tuple[float, int]] = []
        self.env = {
            **({} if ticks else {"RLM_RUN__EVERY_SECONDS": str(A_DAY)}),
            **({"REDIS_URL": redis_url} if redis_url else {}),
            "RLM_WEB__LISTEN": "127.0.0.1:0",
            **(env or {}),
        }
        self.redis_of = dict(redis_of or {})
        self.front = front or (lambda url: url)
        self.env_of = {name: dict(more) for name, more in (env_of or {}).items()}
        self.config.write_text(document)
        self.in_real_time = load_settings(self.config, {})
        self.config.write_text(demo_document(self.in_real_time, speed, "http://127.0.0.1:1"))
        self.api = FaultyApi(load_settings(self.config, {}).event_types)

    def __enter__(self) -> Self:
        self.api.start()
        self.config.write_text(demo_document(self.in_real_time, self.speed, self.front(self.api.url)))
        self.settings = load_settings(self.config, self.env)
        self.store_context = Store(self.settings, keeps_server=True)
        self.store = self.store_context.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        with ExitStack() as ending:  # one that does not leave does not keep the others
            ending.callback(self.api.stop)
            ending.callback(self.store_context.__exit__, None, None, None)
            for name in reversed(["scheduler", "supervisor", *self.processes]):
                ending.callback(self.stop, name)

    # -- processes

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start a process of RLM, by default `rlm NAME`; its log is `NAME.log` in the directory."""
        with (self.directory / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "rlm", *(command or (name,)), "--config", str(self.config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, **self.env, **self.own_redis(name), **self.env_of.get(name, {})},
            )
        self.processes[name] = process
        return process

    def own_redis(self, name: str) -> dict[str, str]:
        return {"REDIS_URL": self.redis_of[name]} if name in self.redis_of else {}

    def start_both(self) -> None:
        """Start a scheduler and a supervisor and wait until they are ready."""
        self.start("scheduler")
        self.start("supervisor")
        wait_until(lambda: self.store.leases.read().holder, timeout=40, message="a scheduler holds the lease")
        wait_until(
            lambda: self.store.processes.register().living(Role.SUPERVISOR), timeout=40, message="a supervisor is alive"
        )

    def stop(self, name: str, signum: int = signal.SIGTERM, timeout: float = 20.0) -> int | None:
        """Stop a process and return its exit status; kill it if it does not exit."""
        process = self.processes.pop(name, None)
        if process is None:
            return None
        if process.poll() is None:
            process.send_signal(signum)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} did not leave within {timeout} s:\n{self.log(name)}") from None

    def log(self, name: str) -> str:
        path = self.directory / f"{name}.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def rlm(self, *args: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "rlm", *args, "--config", str(self.config)],
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **self.env},
            timeout=120,
            check=False,
        )
        assert not check or done.returncode == 0, (
            f"rlm {' '.join(args)}: {done.returncode}\n{done.stdout}\n{done.stderr}"
        )
        return done

    # -- events

    @property
    def types(self) -> list[str]:
        return [one.name for one in self.settings.event_types]

    def push(self, items: Iterable[Mapping[str, Any]]) -> list[str]:
        """Push items like the audit system; return the ids of their events."""
        items = list(items)
        for start in range(0, len(items), 500):
            self.store.intake.push([json.dumps(item).encode() for item in items[start : start + 500]])
        ids = [f"{item['id']}:{name}" for item in items for name in dict.fromkeys(item["events"])]
        self.pushed.update(ids)
        self.pushes.append((time.time(), len(ids)))
        return ids

    def push_evenly(self, number: int, *, prefix: str = "e", seed: int = 1) -> list[str]:
        """Push `number` items of one event each, equally many of each type, shuffled; return their event ids."""
        types = self.types
        items = [make_item(f"{prefix}{index}", types[index % len(types)]) for index in range(number)]
        random.Random(seed).shuffle(items)
        return self.push(items)

    # -- runs

    def ask_for_run(self) -> str:
        """Request a run from the scheduler and return its id."""
        request = self.store.schedule.request()
        reply = wait_until(lambda: self.store.schedule.reply(request), timeout=15, message="the scheduler answers")
        assert reply.run_id, reply
        return reply.run_id

    def await_record(self, run_id: str, timeout: float = 60.0) -> dict[str, Any]:
        """Wait until a run is closed and return its record."""
        return wait_until(
            lambda: as_json(self.store.runs.record(run_id)), timeout=timeout, message=f"run {run_id} is closed"
        )

    def workers(self) -> list[int]:
        """The process ids of the ready workers."""
        return [one.pid for one in self.store.processes.register().living(Role.WORKER) if one.state == "ready"]

    def inflight(self) -> int:
        return sum(count.inflight for count in self.store.ledger.count(self.types).values())

    # -- what must hold whatever happened

    def answered(self) -> Counter[str]:
        """How often each event was answered with success."""
        return Counter(one.event_id for one in self.api.arrivals if one.status == 200 and one.event_id)

    def pending(self) -> set[str]:
        """The unsettled events in the ledger."""
        keys = self.store.keys
        found: set[str] = set()
        for key in (*map(keys.ready, self.store.ledger.types()), keys.due):
            found |= {one.decode().removeprefix("later ") for one in self.store.client.zrange(key, 0, -1)}
        return found

    def letters(self) -> list[dict[str, Any]]:
        return [json.loads(raw) for raw in self.store.letters.all()]

    def assert_promises(
        self, event_ids: Iterable[str], records: Iterable[Mapping[str, Any]], *, refused: int = 0
    ) -> None:
        """Check that nothing is lost, keys are stable, the API saw no limit exceeded, and the books balance.

        `event_ids` must not be lost. A key that the API saw must be that of an event: one of these, another one pushed
        here, or one that another program pushed and that is a dead letter.
        """
        arrivals = self.api.arrivals
        events = set(event_ids)

        letters = {one["event_id"] for one in self.letters()}
        lost = events - set(self.answered()) - self.pending() - letters
        assert not lost, f"{len(lost)} events are lost, {sorted(lost)[:5]}"

        unknown = {one.event_id for one in arrivals} - events - self.pushed - letters
        assert not unknown, f"{len(unknown)} keys are those of no event, {sorted(map(str, unknown))[:5]}"

        assert sum(one.refused for one in self.api.summary().values()) == refused
        assert list(exceeded(arrivals, self.settings.endpoints.values())) == []

        for record in records:
            assert_balanced(record)
        assert books(self.store).faults() == []
        self.assert_counted()

    def assert_counted(self) -> None:
        """Check each record's leftovers against what the next run found in the ledger; the last one's against it now.

        A record alone always balances, because its leftover is computed. An event that was settled twice, or
        disappeared unsettled, shows only if both are counted.
        """
        runs, names = self.store.runs, self.types
        newest_first = runs.history(1000)
        records = [one for run_id in reversed(newest_first) if (one := as_json(runs.record(run_id))) is not None]
        for earlier, later in pairwise(records):
            for name in names:
                left, found = earlier["by_type"][name]["leftover"], later["by_type"][name]["carried_over"]
                assert left == found, f"{earlier['run_id']} left {left} of {name}, {later['run_id']} found {found}"
        counts = self.store.ledger.count(names)
        if records and runs.current() is None and runs.history(1) == newest_first[:1]:  # no tick has come meanwhile
            last = {name: records[-1]["by_type"][name]["leftover"] for name in names}
            assert last == {name: counts[name].unsettled for name in names}, records[-1]["run_id"]

    def repeats(self) -> dict[str, int]:
        """Events that arrived more than once, and how often."""
        counted = Counter(one.event_id for one in self.api.arrivals)
        return {str(event): number for event, number in counted.items() if number > 1}


def make_item(item_id: str, *types: str, **fields: Any) -> dict[str, Any]:
    """An item as the audit system writes it."""
    return {"id": item_id, "wallet_name": f"wallet {item_id}", "events": list(types), **fields}


def assert_balanced(record: Mapping[str, Any]) -> None:
    """Check that the books of a record balance, by type and in all."""
    for name, entry in [*record["by_type"].items(), ("in all", record["counts"])]:
        came = entry["taken"] + entry["carried_over"]
        assert came == entry["completed"] + entry["failed"] + entry["leftover"], (name, entry)
    for name, entry in record["by_endpoint"].items():
        assert entry["calls"] == entry["completed"] + entry["throttled"] + entry["errors"], (name, entry)


def cpu_seconds(pid: int) -> float:
    """The processor time a process has used so far, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def at_rest(pids: list[int]) -> bool:
    """Return whether the processes together use at most 2 % of a core over half a second."""
    used = sum(map(cpu_seconds, pids))
    time.sleep(0.5)
    return sum(map(cpu_seconds, pids)) - used < 0.015


def monotonic() -> float:
    return time.monotonic()
