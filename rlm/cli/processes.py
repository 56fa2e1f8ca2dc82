"""The long-running processes, one each, as the Procfile starts them; and who works."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from rlm.cli.common import Group, config_option, examples, json_option, new_server, store_of
from rlm.cli.printing import fitting_table, is_terminal, print_json, show_words, styled
from rlm.core.clock import isoformat
from rlm.core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rlm.ledger import Store
    from rlm.processes.signals import StopSignals, Wakeup

log = logging.getLogger(__name__)

#: Characters of a host's name that a terminal is shown.
_LONGEST_HOST = 24

volatile_option = click.option(
    "--allow-volatile", is_flag=True, help="Use a Redis that keeps nothing on disk: a restart of it loses events."
)


def _ask_for_format(_context: click.Context, _param: click.Parameter, value: str | None) -> None:
    """Write the choice where this process reads it, and the processes that it starts."""
    if value is not None:
        os.environ["RLM_LOG_FORMAT"] = value


log_format_option = click.option(
    "--log-format",
    type=click.Choice(["auto", "text", "json"], case_sensitive=False),
    envvar="RLM_LOG_FORMAT",
    expose_value=False,
    callback=_ask_for_format,
    help="How log lines are written to stderr: as text, as JSON, or (auto, the default) as text on a terminal and as "
    "JSON elsewhere. $RLM_LOG_FORMAT says the same.",
)


@contextmanager
def long_running(config: Path | None, role: str) -> Iterator[tuple[Store, Wakeup, StopSignals]]:
    """Be a process that runs until a signal: its log, its title, its store, and the signals that it got.

    Redis need not answer: who cannot begin without it sees to that.

    What builds a broker is to be imported inside: Sentry is set up here, and must be before it.
    """
    from setproctitle import setproctitle  # noqa: PLC0415  # a command loads what it needs when it runs

    from rlm import telemetry  # noqa: PLC0415
    from rlm.ledger import open_store  # noqa: PLC0415
    from rlm.processes import signals  # noqa: PLC0415
    from rlm.settings import load_settings  # noqa: PLC0415

    wakeup = signals.Wakeup()
    with signals.StopSignals(wakeup) as stop:
        settings = load_settings(config)
        telemetry.set_up(settings, role)
        setproctitle(f"rlm {role}")
        if words := new_server(settings):
            log.warning("%s", words, extra={"action": "use_defaults"})
        with open_store(settings) as store:
            yield store, wakeup, stop


@click.command(epilog=examples("rlm scheduler", "rlm scheduler --config /etc/rlm/rlm.toml"))
@config_option
@volatile_option
@log_format_option
def scheduler(config: Path | None, allow_volatile: bool) -> None:
    """Start runs on the wall clock and conduct them. TERM hands an open run over, or closes it."""
    with long_running(config, "scheduler") as (store, wakeup, stop):
        from rlm.ledger.fitness import require_fit  # noqa: PLC0415
        from scheduler.service import SchedulerService  # noqa: PLC0415

        require_fit(store, allow_volatile=allow_volatile)
        SchedulerService(store, wakeup, stop, allow_volatile=allow_volatile).run()


@click.command(epilog=examples("rlm supervisor", "rlm supervisor --config /etc/rlm/rlm.toml"))
@config_option
@volatile_option
@log_format_option
def supervisor(config: Path | None, allow_volatile: bool) -> None:
    """Keep the wanted number of workers alive on this host. TERM lets calls in flight end; a second TERM does not."""
    with long_running(config, "supervisor") as (store, wakeup, stop):
        from actors.launcher import ForkserverLauncher  # noqa: PLC0415
        from rlm.ledger.fitness import require_fit  # noqa: PLC0415
        from rlm.processes.supervisor import Supervisor  # noqa: PLC0415

        require_fit(store, allow_volatile=allow_volatile)
        launcher = ForkserverLauncher(store)
        Supervisor(store, store.settings, launcher, wakeup, stop).run()


@click.group(cls=Group)
def worker() -> None:
    """Start a worker by hand; list who works."""


@worker.command("start", epilog=examples("rlm worker start"))
@config_option
@log_format_option
def start_worker(config: Path | None) -> None:
    """Be one worker, in the foreground, beside those of the supervisors."""
    from actors.worker import run_worker  # noqa: PLC0415
    from rlm.settings import load_settings  # noqa: PLC0415

    worker_id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    run_worker(worker_id, load_settings(config))


@worker.command("list", epilog=examples("rlm worker list", "rlm worker list --json | jq length"))
@config_option
@json_option
def list_workers(config: Path | None, as_json: bool) -> None:
    """List who works, where, since when, and on how many events."""
    from rlm.admin.report import revision_in_force  # noqa: PLC0415
    from rlm.ledger.processes import Role  # noqa: PLC0415

    with store_of(config) as store:
        workers = store.processes.alive(Role.WORKER)
        revision = revision_in_force(store)
        busy = store.processes.busy([one.id for one in workers])
        entries = [
            {
                "pid": one.pid,
                "host": one.host,
                "state": one.state,
                "threads": one.threads,
                "busy": number,
                "started_at": isoformat(one.started_at),
                "other_configuration": one.revision != revision,
            }
            for one, number in zip(workers, busy, strict=True)
        ]
    if as_json:
        print_json(entries)
    elif not entries:
        show_words(
            "No worker is running. The conductor asks for some when a run needs them; `rlm supervisor` starts them."
        )
    else:
        names = ["pid", "host", "state", "threads", "busy", "started_at"]
        rows = [
            [
                str(entry["pid"]),
                one_line(entry["host"], _LONGEST_HOST) if is_terminal() else str(entry["host"]),
                _state(str(entry["state"]), other=bool(entry["other_configuration"])),
                *(str(entry[name]) for name in names[3:]),
            ]
            for entry in entries
        ]
        fitting_table(names, rows, lambda index: index in {0, 3, 4}, spare=["started_at"])


def _state(state: str, *, other: bool) -> str:
    if other:
        return styled(f"{state}, another configuration", "warn")
    return styled(state, {"ready": "ok", "starting": "busy", "stopping": "warn"}.get(state, "dim"))
