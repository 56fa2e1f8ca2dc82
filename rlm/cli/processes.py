"""The long-running processes, one each, as the Procfile starts them; and who works."""

from __future__ import annotations

import os
import secrets
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from rlm.cli.common import config_option, json_option, opened, print_json, show, store_of, table
from rlm.clock import isoformat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rlm.signals import StopSignals, Wakeup
    from rlm.store import Store

volatile_option = click.option(
    "--allow-volatile", is_flag=True, help="Use a Redis that keeps nothing on disk: a restart of it loses events."
)


@contextmanager
def long_running(
    config: Path | None, role: str, *, allow_volatile: bool
) -> Iterator[tuple[Store, Wakeup, StopSignals]]:
    """Be a process that runs until a signal: its log, its title, a store that is fit, and the signals that it got.

    What builds a broker is to be imported inside: Sentry is set up here, and must be before it.
    """
    from setproctitle import setproctitle  # noqa: PLC0415  # a command loads what it needs when it runs

    from rlm import signals, telemetry  # noqa: PLC0415
    from rlm.settings import load_settings  # noqa: PLC0415
    from rlm.store.fitness import require_fit  # noqa: PLC0415

    wakeup = signals.Wakeup()
    with signals.StopSignals(wakeup) as stop:
        settings = load_settings(config)
        telemetry.set_up(settings, role)
        setproctitle(f"rlm {role}")
        with opened(settings) as store:
            require_fit(store.client, allow_volatile=allow_volatile)
            yield store, wakeup, stop


@click.command()
@config_option
@volatile_option
def scheduler(config: Path | None, allow_volatile: bool) -> None:
    """Start runs on the wall clock and conduct them. TERM hands an open run over, or closes it."""
    with long_running(config, "scheduler", allow_volatile=allow_volatile) as (store, wakeup, stop):
        from scheduler.service import SchedulerService  # noqa: PLC0415

        SchedulerService(store, store.settings, wakeup, stop, allow_volatile=allow_volatile).run()


@click.command()
@config_option
@volatile_option
def supervisor(config: Path | None, allow_volatile: bool) -> None:
    """Keep the wanted number of workers alive on this host. TERM lets calls in flight end; a second TERM does not."""
    with long_running(config, "supervisor", allow_volatile=allow_volatile) as (store, wakeup, stop):
        from actors.launcher import ForkserverLauncher  # noqa: PLC0415
        from rlm.supervisor import Supervisor  # noqa: PLC0415

        launcher = ForkserverLauncher(store, store.settings.source)
        Supervisor(store, store.settings, launcher, wakeup, stop).run()


@click.group()
def worker() -> None:
    """Start a worker by hand; list who works."""


@worker.command("start")
@config_option
def start_worker(config: Path | None) -> None:
    """Be one worker, in the foreground, beside those of the supervisors."""
    from actors.worker import run_worker  # noqa: PLC0415

    worker_id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    run_worker(worker_id, config)


@worker.command("list")
@config_option
@json_option
def list_workers(config: Path | None, as_json: bool) -> None:
    """List who works, where, since when, and on how many events."""
    from rlm.store.processes import Role  # noqa: PLC0415

    with store_of(config) as store:
        workers = store.processes.alive(Role.WORKER)
        busy = store.processes.busy([one.id for one in workers])
        entries = [
            {
                "pid": one.pid,
                "host": one.host,
                "state": one.state,
                "threads": one.threads,
                "busy": number,
                "started_at": isoformat(one.started_at),
            }
            for one, number in zip(workers, busy, strict=True)
        ]
    if as_json:
        print_json(entries)
    elif not entries:
        show("No worker is running. The conductor asks for some when a run needs them; `rlm supervisor` starts them.")
    else:
        names = ["pid", "host", "state", "threads", "busy", "started_at"]
        table(names, [[str(entry[name]) for name in names] for entry in entries], lambda index: index in {0, 3, 4})
