"""The stage: a directory that goes away again, with a configuration, a strict API, a server and the processes in it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.ledger import open_store
from rlm.ledger.embedded import running
from rlm.sandbox.configuration import demo_document
from rlm.sandbox.demo.children import Children
from rlm.sandbox.mockapi import MockApi
from rlm.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store
    from rlm.processes.signals import StopSignals
    from rlm.settings import Settings

#: The guard at any speed, seconds: the way from here to the API does not get faster with the clock.
SHORTEST_GUARD_SECONDS = 0.05
#: How long the last of them may take to stop the server, seconds.
SERVER_SECONDS = 5.0

_NOWHERE = "http://127.0.0.1:1"
_POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class Stage:
    """Everything a demonstration needs. The processes are not started yet: first the items are laid out."""

    settings: Settings
    api: MockApi
    store: Store
    children: Children


@contextmanager
def staged(settings: Settings, speed: float, stop: StopSignals) -> Iterator[Stage]:
    """Build a system like that of `settings`, `speed` times as fast; take all of it down again, however this ends.

    Processes end first, in the order in which they were started, so that no call is cut; then the server, the API, and
    the directory. A second signal ends them at once.
    """
    faster = _with_guard(settings, speed)
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="rlm-demo-"))).resolve()
        config = directory / "rlm.toml"
        types = _write(config, demo_document(faster, speed, _NOWHERE)).event_types
        api = stack.enter_context(MockApi(types))
        effective = _write(config, demo_document(faster, speed, api.url))
        stack.callback(_await_server_end, effective.data_dir)
        store = stack.enter_context(open_store(effective))
        children = Children(effective, config, stop)
        stack.callback(children.stop)
        yield Stage(effective, api, store, children)


def _with_guard(settings: Settings, speed: float) -> Settings:
    guard = max(settings.run.guard_seconds, SHORTEST_GUARD_SECONDS * speed)
    return replace(settings, run=settings.run.model_copy(update={"guard_seconds": guard}))


def _write(config: Path, document: str) -> Settings:
    config.write_text(document)
    return load_settings(config, {})


def _await_server_end(data_dir: Path) -> None:
    """Wait for a worker that outlived a killed supervisor: it stops the server when it leaves as the last."""
    until = system_clock.monotonic() + SERVER_SECONDS
    while running(data_dir) and system_clock.monotonic() < until:
        system_clock.sleep(_POLL_SECONDS)
