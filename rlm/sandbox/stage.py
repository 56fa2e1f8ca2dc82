"""The stage of the demo and the test: a temporary directory, a strict API, a store, the processes."""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from msgspec import structs

from rlm.core.clock import system_clock
from rlm.core.documents import plain
from rlm.core.errors import InterruptedByHandError, RunError
from rlm.ledger import Store
from rlm.ledger.cleaning import remove_keys
from rlm.ledger.embedded import running
from rlm.ledger.fitness import require_fit
from rlm.ledger.processes import Role, WorkerState
from rlm.processes.group import ProcessGroup
from rlm.processes.signals import Layer, StopSignals, grace_seconds
from rlm.sandbox.configuration import demo_document
from rlm.sandbox.mockapi import MockApi
from rlm.settings import Settings, load_settings

T = TypeVar("T")

#: The shortest guard of a demo, seconds: calls do not travel faster when the clock runs faster.
SHORTEST_GUARD_SECONDS = 0.05
#: Seconds that the last worker of a demo may take to stop the embedded server.
SERVER_SECONDS = 5.0
#: Seconds for the processes to come up, and for the scheduler to start the run.
START_SECONDS = 30.0
#: Seconds after its deadline by which a run must be on record. RLM promises one second.
CLOSE_SECONDS = 10.0
#: Lines of the log to quote in an error.
LOG_LINES = 15
#: Seconds between two checks of a condition.
POLL_SECONDS = 0.02

_NOWHERE = "http://127.0.0.1:1"
_OWNER = "demo"
#: The length of a test's prefix: what it has of that of the installation, which may have 50 characters, and at random.
_LONGEST_BASE, _RANDOM_BYTES = 30, 5
#: Processes of a test get the URL of Redis in this variable, not in the file, because it may hold a password.
_URL_VARIABLE = "REDIS_URL"


@dataclass(slots=True)
class Stage:
    """Everything that one run needs. The processes are not started yet, so that items can be pushed first.

    The processes share the file `config`, which has the `settings`, and a log beside it; `environ` is added to their
    environment, `options` to each command. Errors name `what` failed. Each method raises RunError if a process ends or
    makes no progress, or if a signal interrupts this process.
    """

    what: str
    settings: Settings
    config: Path
    api: MockApi
    store: Store
    signals: StopSignals
    environ: Mapping[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    _group: ProcessGroup = field(init=False)

    def __post_init__(self) -> None:
        self._group = ProcessGroup(self.signals, grace_seconds(self.settings, Layer.GROUP))

    def start_dashboard(self) -> str:
        """Serve the dashboard on a free port, and return its URL once it answers."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._start("web", "--port", str(port))

        def answers() -> bool | None:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return True
            return None

        self._wait_for(answers, START_SECONDS, "its dashboard did not come up")
        return f"http://127.0.0.1:{port}/"

    def await_signal(self) -> None:
        """Let everything continue until a signal asks this process to stop."""
        while not self.signals.graceful:
            self._pause(POLL_SECONDS)

    def start_processes(self) -> None:
        """Start the processes and wait until a worker is ready, as after an earlier run.

        Requesting workers needs the conductor's lease, so the stage holds it until `start_run`.
        """
        store = self.store
        store.processes.want(store.leases.acquire(_OWNER, START_SECONDS), 1)
        for command in ("scheduler", "supervisor"):
            self._start(command)

        def ready() -> bool | None:
            workers = [one.state for one in store.processes.alive(Role.WORKER)]
            return (WorkerState.READY in workers and bool(store.processes.alive(Role.SCHEDULER))) or None

        self._wait_for(ready, START_SECONDS, "its scheduler, its supervisor and a first worker did not come up")

    def start_run(self) -> str:
        """Request a run from the scheduler, which conducts it; return the run's id."""
        store = self.store
        request = store.schedule.request()
        store.leases.release(_OWNER)
        store.processes.wake("scheduler")
        reply = self._wait_for(
            lambda: store.schedule.reply(request), START_SECONDS, "its scheduler did not start a run"
        )
        store.schedule.forget_reply(request)
        return str(reply.get("run_id") or reply["open"])  # a tick may have come first

    def await_record(
        self, run_id: str, look: Callable[[], object] = lambda: None, pause: float = POLL_SECONDS
    ) -> dict[str, Any]:
        """Call `look` every `pause` seconds until the run is on record; return the record."""

        def record() -> dict[str, Any] | None:
            look()
            record = self.store.runs.record(run_id)
            return plain(record) if record else None

        patience = self.settings.run.window_seconds + CLOSE_SECONDS
        return self._wait_for(record, patience, f"run {run_id} did not end", pause)

    def log(self) -> list[str]:
        """Return the last lines of the log of its processes."""
        lines = self._log_path.read_text(errors="replace").splitlines() if self._log_path.exists() else []
        return lines[-LOG_LINES:]

    def stop(self) -> None:
        """Stop the processes; a second signal ends them at once."""
        self._group.end()

    @property
    def _log_path(self) -> Path:
        return self.config.parent / "processes.log"

    def _start(self, *command: str) -> None:
        """Start `rlm COMMAND...` without any setting of this environment; it stops when this process dies."""
        with self._log_path.open("ab") as log:
            self._group.start(
                [*command, "--config", str(self.config), *self.options],
                stdout=log,
                stderr=log,
                cwd=self.config.parent,
                env={**_bare_environment(), **self.environ},
            )

    def _wait_for(
        self, condition: Callable[[], T | None], seconds: float, trouble: str, pause: float = POLL_SECONDS
    ) -> T:
        """Check `condition` every `pause` seconds until it is not None; on time-out raise an error about `trouble`."""
        until = system_clock.monotonic() + seconds
        while (answer := condition()) is None:
            if self.signals.graceful:
                raise InterruptedByHandError(f"The {self.what} was interrupted. It has left nothing behind.")
            if system_clock.monotonic() > until:
                raise self._trouble(f"{trouble} within {seconds:g} s")
            self._pause(pause)
        return answer

    def _pause(self, seconds: float) -> None:
        for name, code in self._group.reap():
            raise self._trouble(f"`rlm {name}` ended unexpectedly ({code})")
        self.signals.wakeup.wait(seconds)

    def _trouble(self, what: str) -> RunError:
        said = f"The {self.what} broke off: {what}. The log of its processes ends:"
        return RunError("\n".join([said, *self.log()]))


@contextmanager
def demo_stage(settings: Settings, speed: float, stop: StopSignals) -> Iterator[Stage]:
    """Build a system like that of `settings`, `speed` times as fast, on an embedded server; remove it at the end.

    The processes end first; then the server, the API and the
    directory. A second signal ends them at once.
    """
    made = _system("demo", lambda url: demo_document(_guarded(settings, speed), speed, url), {})
    with ExitStack() as stack:
        effective, config, api = stack.enter_context(made)
        stack.callback(_await_server_end, effective.data_dir)
        store = stack.enter_context(Store(effective, keeps_server=True))
        stage = Stage("demo", effective, config, api, store, stop)
        stack.callback(stage.stop)
        yield stage


@contextmanager
def installed_stage(settings: Settings, speed: float, stop: StopSignals, *, allow_volatile: bool) -> Iterator[Stage]:
    """Build a system like that of `settings` on its own Redis, `speed` times as fast, under a prefix of its own.

    At the end its processes are stopped and its keys are removed.
    """
    prefix = f"{settings.redis.prefix[:_LONGEST_BASE]}-test-{secrets.token_hex(_RANDOM_BYTES)}"
    with ExitStack() as stack:
        url = stack.enter_context(_fit_store(settings, allow_volatile=allow_volatile)).url
        where = {_URL_VARIABLE: url}
        made = _system("test", lambda api: demo_document(_guarded(settings, speed), speed, api, prefix), where)
        effective, config, api = stack.enter_context(made)
        store = stack.enter_context(closing(Store(effective, url)))
        stack.callback(remove_keys, store)
        options = ["--allow-volatile"] if allow_volatile else []
        stage = Stage("test", effective, config, api, store, stop, where, options)
        stack.callback(stage.stop)
        yield stage


@contextmanager
def _fit_store(settings: Settings, *, allow_volatile: bool) -> Iterator[Store]:
    with Store(settings, keeps_server=True) as store:
        require_fit(store, allow_volatile=allow_volatile, claim=False)
        yield store


def _guarded(settings: Settings, speed: float) -> Settings:
    guard = max(settings.run.guard_seconds, SHORTEST_GUARD_SECONDS * speed)
    return replace(settings, run=structs.replace(settings.run, guard_seconds=guard))


@contextmanager
def _system(
    name: str, document: Callable[[str], str], environ: Mapping[str, str]
) -> Iterator[tuple[Settings, Path, MockApi]]:
    """Start a mock API and write a configuration that calls it; yield both and the settings in force."""
    with TemporaryDirectory(prefix=f"rlm-{name}-") as directory:
        config = Path(directory).resolve() / "rlm.toml"
        config.write_text(document(_NOWHERE))
        with MockApi(load_settings(config, environ).event_types) as api:
            config.write_text(document(api.url))
            yield load_settings(config, environ), config, api


def _await_server_end(data_dir: Path) -> None:
    """Wait for a worker that outlived a killed supervisor: the last worker to exit stops the server."""
    until = system_clock.monotonic() + SERVER_SECONDS
    while running(data_dir) and system_clock.monotonic() < until:
        system_clock.sleep(POLL_SECONDS)


def _bare_environment() -> dict[str, str]:
    """Return this environment without variables that override the configuration; log lines are text."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("RLM_") and name not in {"REDIS_URL", "SENTRY_DSN"}
    }
    return {**kept, "RLM_LOG_FORMAT": "text"}
