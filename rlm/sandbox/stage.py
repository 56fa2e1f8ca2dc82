"""The stage of the demo and the test: a temporary directory, a strict API, a store, the processes."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeVar

import msgspec
from msgspec import structs

from rlm.admin.errors import InterruptedByHandError
from rlm.core.clock import system_clock
from rlm.core.endpoint import Limit
from rlm.core.errors import RunError
from rlm.ledger.processes import Role, WorkerState
from rlm.ledger.store import Store
from rlm.processes.group import ProcessGroup
from rlm.processes.signals import Layer, StopSignals, grace_seconds
from rlm.sandbox.mockapi import MockApi
from rlm.settings import Settings, load_settings
from rlm.settings.layers import written
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
        runs = self.store.runs

        def ready() -> bool | None:
            there = self.store.processes.register()
            is_ready = WorkerState.READY in [worker.state for worker in there.living(Role.WORKER)]
            return (is_ready and bool(there.living(Role.SCHEDULER))) or None

        self.wait_for(ready, START_SECONDS, "its scheduler, its supervisor and a first worker did not come up")

        def begun() -> str | None:
            run = runs.current()
            return run.id if run else next(iter(runs.history()), None)

        self.store.schedule.request()
        self.store.processes.wake("scheduler")
        return self.wait_for(begun, START_SECONDS, "its scheduler did not start a run")

    def wait_for(self, condition: Callable[[], T | None], seconds: float, trouble: str, pause: float = 0.02) -> T:
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
            self.signals.wait(pause)
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
    or more: with shorter ones, calls on a busy machine would time out.
    """

    def faster(value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: faster(each, name) for name, each in value.items() if each is not None}
        if isinstance(value, list | tuple):
            return [faster(each) for each in value]
        if key == "timeout_seconds":
            return max(value / speed, min(value, 1.0))
        return _faster_limit(value, speed) if key == "rate_limit" else value / speed if "_seconds" in key else value

    parts = ("queue", "run", "workers", "retry", "types", "budgets")
    tables = faster({name: msgspec.to_builtins(getattr(settings, name)) for name in parts})
    tables["redis"] = {"prefix": prefix} if prefix else {"url": EMBEDDED, "prefix": settings.redis.prefix}
    if prefix:
        tables["queue"] |= {name: f"{prefix}_{name}" for name in ("events", "processing", "failed")}
    for endpoint in (endpoint for kind in tables["types"].values() for endpoint in kind["endpoints"]):
        endpoint["url"] = f"{base_url}/{endpoint['name']}"
        del endpoint["headers"]
    return "\n".join(f"{name} = {_toml(table)}" for name, table in tables.items())


def _toml(value: Any) -> str:
    """Return a value as in TOML, on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{written(key)} = {_toml(each)}' for key, each in value.items())}}}"
    return f"[{', '.join(map(_toml, value))}]" if isinstance(value, list) else written(value)


def _faster_limit(limit: str, speed: float) -> str:
    """Return a limit with shorter periods, without exponents: its notation has none."""
    rules = Limit.parse(limit).rules
    periods = ((rule.amount, f"{rule.seconds / speed:.9f}".rstrip("0").rstrip(".")) for rule in rules)
    return "; ".join(f"{amount} per {seconds} seconds" for amount, seconds in periods)


def _remove_keys(store: Store) -> None:
    """Delete all keys of `store`, whose user may look for them (SCAN)."""
    with store.guarded():
        for name in store.client.scan_iter(match=f"{store.settings.redis.prefix}[:_]*", count=1000):
            store.client.delete(name)
