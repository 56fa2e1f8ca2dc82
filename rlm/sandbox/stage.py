"""The stage of the demo and the test: a temporary directory, a strict API, a store, the processes."""

from __future__ import annotations

import math
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

from msgspec import structs

from rlm.core.clock import system_clock
from rlm.core.documents import Record
from rlm.core.endpoint import Limit
from rlm.core.errors import InterruptedByHandError, RunError
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.store import Store
from rlm.processes.group import ProcessGroup
from rlm.processes.signals import Layer, StopSignals, grace_seconds
from rlm.sandbox.mockapi import MockApi
from rlm.settings import Settings, load_settings
from rlm.settings.layers import dotted, written
from rlm.settings.secrets import EMBEDDED

T = TypeVar("T")

#: The shortest guard of a demo, seconds: calls do not travel faster when the clock runs faster.
SHORTEST_GUARD_SECONDS = 0.05
#: Seconds for the processes to come up, and for the scheduler to start the run.
START_SECONDS = 30.0


class Stage(NamedTuple):
    """Everything that one run needs. The processes are not started yet, so that items can be pushed first.

    `start` starts one of them, by its command; they share the `log`. Errors name `what` failed. Each method raises
    RunError if a process ends or makes no progress, or if a signal interrupts this process.
    """

    what: str
    settings: Settings
    api: MockApi
    store: Store
    signals: StopSignals
    group: ProcessGroup
    log: Path
    start: Callable[[str], None]

    def start_run(self) -> str:
        """Start the processes, and request a run once a worker is ready, as after an earlier run; return its id."""
        self.start("scheduler")
        self.start("supervisor")
        alive, schedule = self.store.processes.alive, self.store.schedule

        def ready() -> bool | None:
            is_ready = WorkerState.READY in [worker.state for worker in alive(Role.WORKER)]
            return (is_ready and bool(alive(Role.SCHEDULER))) or None

        self._wait_for(ready, START_SECONDS, "its scheduler, its supervisor and a first worker did not come up")
        request = schedule.request()
        self.store.processes.wake("scheduler")
        reply = self._wait_for(lambda: schedule.reply(request), START_SECONDS, "its scheduler did not start a run")
        schedule.withdraw(request)
        return reply.run_id or reply.open  # a tick may have come first

    def await_record(self, run_id: str, look: Callable[[], object]) -> Record:
        """Call `look` every 0.25 s until the run is on record; return the record."""

        def record() -> Record | None:
            look()
            return self.store.runs.record(run_id)

        patience = self.settings.run.window_seconds + 10.0  # RLM promises one second after its deadline
        return self._wait_for(record, patience, f"run {run_id} did not end", pause=0.25)

    def _wait_for(self, condition: Callable[[], T | None], seconds: float, trouble: str, pause: float = 0.02) -> T:
        """Check `condition` every `pause` seconds until it is not None; on time-out raise an error about `trouble`."""
        until = system_clock.monotonic() + seconds
        while (answer := condition()) is None:
            if self.signals.graceful:
                raise InterruptedByHandError(f"The {self.what} was interrupted. It has left nothing behind.")
            ended = [f"`rlm {name}` ended unexpectedly ({code})" for name, code in self.group.reap()]
            if ended or system_clock.monotonic() > until:
                why = "; ".join(ended) or f"{trouble} within {seconds:g} s"
                lines = self.log.read_text(errors="replace").splitlines()[-15:] if self.log.exists() else []
                raise RunError("\n".join([f"The {self.what} broke off: {why}. The log of its processes ends:", *lines]))
            self.signals.wakeup.wait(pause)
        return answer


@contextmanager
def set_up(
    settings: Settings, speed: float, stop: StopSignals, installed: str = "", options: Sequence[str] = ()
) -> Iterator[Stage]:
    """Build a system like that of `settings`, `speed` times as fast, and remove it at the end.

    It is on an embedded server of its own or, under a prefix of its own, on the Redis of the URL `installed`. That is
    given to the processes in their environment, not in the file, because it may hold a password. At the end the
    processes stop first; then its keys or its server, the API and the directory go.
    """
    what, environ = ("test", {"REDIS_URL": installed}) if installed else ("demo", {})
    # A prefix has at most 50 characters.
    prefix = f"{settings.redis.prefix[:30]}-test-{secrets.token_hex(5)}" if installed else ""
    guard = max(settings.run.guard_seconds, SHORTEST_GUARD_SECONDS * speed)
    workers = structs.replace(settings.workers, min=max(1, settings.workers.min))  # one is there, as after a run
    guarded = structs.replace(settings, run=structs.replace(settings.run, guard_seconds=guard), workers=workers)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix=f"rlm-{what}-"))).resolve()
        config, log = directory / "rlm.toml", directory / "processes.log"

        def calling(url: str) -> Settings:
            config.write_text(demo_document(guarded, speed, url, prefix))
            return load_settings(config, environ)

        def start(name: str) -> None:
            """Start `rlm NAME` without any setting of this environment; it stops when this process dies."""
            own = ("REDIS_URL", "SENTRY_DSN")
            bare = {name: text for name, text in os.environ.items() if not name.startswith("RLM_") and name not in own}
            with log.open("ab") as file:
                group.start(
                    [name, "--config", str(config), *options],
                    stdout=file,
                    stderr=file,
                    cwd=directory,
                    env={**bare, "RLM_LOG_FORMAT": "text", **environ},
                )

        api = stack.enter_context(MockApi(calling("http://127.0.0.1:1").event_types))
        effective = calling(api.url)
        store = stack.enter_context(Store(effective, keeps_server=True))
        if installed:
            stack.callback(_remove_keys, store)
        group = ProcessGroup(stop, grace_seconds(effective, Layer.GROUP))
        stack.callback(group.end)
        yield Stage(what, effective, api, store, stop, group, log, start)


def demo_document(settings: Settings, speed: float, base_url: str, prefix: str = "") -> str:
    """Return TOML like `settings`, calling `base_url`/<name>, with times divided by `speed`; no headers, so no secrets.

    It is on an embedded server or, with a `prefix`, under that on the Redis of REDIS_URL. Time-outs stay at one second
    or more. Raise ValueError if `speed` is not a finite number above 0.
    """
    if not (math.isfinite(speed) and speed > 0):
        raise ValueError(f"the speed must be a number above 0, not {speed!r}")

    def timeout(seconds: float) -> float:  # with a shorter one, calls on a busy machine would time out
        return max(seconds / speed, min(seconds, 1.0))

    lists = {name: f"{prefix}_{name}" for name in ("events", "processing", "failed")} if prefix else {}
    tables: list[tuple[str, dict[str, Any]]] = [
        ("[redis]", {"prefix": prefix} if prefix else {"url": EMBEDDED, "prefix": settings.redis.prefix}),
        ("[queue]", _faster(structs.asdict(settings.queue), speed) | lists),
        ("[run]", _faster(structs.asdict(settings.run), speed)),
        ("[workers]", structs.asdict(settings.workers)),
        ("[retry]", structs.asdict(settings.retry) | {"timeout_seconds": timeout(settings.retry.timeout_seconds)}),
    ]
    for kind in settings.event_types:
        plain = {"priority": kind.priority, "share": kind.share, "processing_seconds": kind.processing_seconds / speed}
        tables.append((f"[{dotted(('types', kind.name))}]", plain))
        for endpoint in kind.endpoints:
            facts: dict[str, Any] = {
                "name": endpoint.name,
                "url": f"{base_url.rstrip('/')}/{endpoint.name}",
                "rate_limit": _faster_limit(endpoint.limit, speed),
                "timeout_seconds": timeout(endpoint.timeout_seconds),
            }
            facts |= {"budget": endpoint.budget.name} if endpoint.budget else {}
            tables.append((f"[[{dotted(('types', kind.name, 'endpoints'))}]]", facts))
    for name, budget in settings.budgets.items():
        limit = _faster_limit(Limit.parse(budget.rate_limit), speed)
        tables.append((f"[{dotted(('budgets', name))}]", {"rate_limit": limit}))
    lines = ([header, *(f"{key} = {written(value)}" for key, value in table.items())] for header, table in tables)
    return "\n".join(line for of_table in lines for line in of_table)


def _faster(table: dict[str, Any], speed: float) -> dict[str, Any]:
    return {key: value / speed if key.endswith("_seconds") else value for key, value in table.items()}


def _faster_limit(limit: Limit, speed: float) -> str:
    """Return a limit with shorter periods, without exponents: its notation has none."""
    periods = ((rule.amount, f"{rule.seconds / speed:.9f}".rstrip("0").rstrip(".")) for rule in limit.rules)
    return "; ".join(f"{amount} per {seconds} seconds" for amount, seconds in periods)


def _remove_keys(store: Store) -> None:
    """Delete all keys of `store`, whose user may look for them (SCAN)."""
    with store.guarded():
        for name in store.client.scan_iter(match=f"{store.settings.redis.prefix}[:_]*", count=1000):
            store.client.delete(name)
