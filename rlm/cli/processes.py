"""The long-running processes, as the Procfile starts them: scheduler, supervisor, worker, web."""

from __future__ import annotations

import logging
import os
import secrets
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from rlm.cli.common import Group, examples, new_server, store_of
from rlm.cli.options import WholeNumber, config_option, json_option, log_format_option, volatile_option
from rlm.cli.printing import is_terminal, print_json, show_words, styled, table
from rlm.core.clock import isoformat
from rlm.core.text import one_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rlm.ledger import Store
    from rlm.processes.signals import StopSignals, Wakeup


log = logging.getLogger(__name__)

#: The most characters of a host's name on a terminal.
_LONGEST_HOST = 24


@contextmanager
def long_running(config: Path | None, role: str) -> Iterator[tuple[Store, Wakeup, StopSignals]]:
    """Set up a process that runs until a signal: log, title, store; yield the store and the signals.

    Redis need not answer; a caller that needs it checks.

    Import what builds a broker inside the block, since Sentry is set up here and must come first.
    """
    from setproctitle import setproctitle

    from rlm import telemetry
    from rlm.ledger import open_store
    from rlm.processes import signals
    from rlm.settings import load_settings

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
        from rlm.ledger.fitness import require_fit
        from scheduler.service import SchedulerService

        require_fit(store, allow_volatile=allow_volatile)
        SchedulerService(store, wakeup, stop, allow_volatile=allow_volatile).run()


@click.command(epilog=examples("rlm supervisor", "rlm supervisor --config /etc/rlm/rlm.toml"))
@config_option
@volatile_option
@log_format_option
def supervisor(config: Path | None, allow_volatile: bool) -> None:
    """Keep the wanted number of workers alive on this host. TERM lets calls in flight end; a second TERM does not."""
    with long_running(config, "supervisor") as (store, wakeup, stop):
        from actors.launcher import ForkserverLauncher
        from rlm.ledger.fitness import require_fit
        from rlm.processes.supervisor import Supervisor

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
    from actors.worker import run_worker
    from rlm.settings import load_settings

    worker_id = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(4)}"
    run_worker(worker_id, load_settings(config))


@worker.command("list", epilog=examples("rlm worker list", "rlm worker list --json | jq length"))
@config_option
@json_option
def list_workers(config: Path | None, as_json: bool) -> None:
    """List who works, where, since when, and on how many events."""
    from rlm.admin.report import revision_in_force
    from rlm.ledger.processes import Role

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
        table(names, rows, lambda index: index in {0, 3, 4}, spare=["started_at"])


def _state(state: str, *, other: bool) -> str:
    if other:
        return styled(f"{state}, another configuration", "warn")
    return styled(state, {"ready": "ok", "starting": "busy", "stopping": "warn"}.get(state, "dim"))


@click.command(
    epilog=examples("rlm web --metrics-only", "rlm web --port 9090", "RLM_WEB__TOKEN=env:RLM_TOKEN rlm web --host ::")
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8088, show_default=True, type=WholeNumber(0, 65535), help="0 picks a free one.")
@click.option("--metrics-only", is_flag=True, help="Serve /metrics and /healthz only, and no page for people.")
@config_option
@log_format_option
def web(*, config: Path | None, host: str, port: int, metrics_only: bool) -> None:
    """Serve metrics for Prometheus, and a health check, over HTTP. TERM ends it at once.

    /metrics has what the ledger says at that moment, over all processes and hosts; one such process is enough for all
    of them. /healthz answers 200 while Redis answers and a scheduler lives, else 503 with the reason. / says so. It
    starts without Redis too, and says that it is away.

    On another address than the loopback interface's it starts only with a token (web.token), which all but /healthz
    then ask for, as "Authorization: Bearer TOKEN".

    The Host of a request must be this host's loopback, the address at which it arrived, or listed in web.hosts.
    """
    from rlm.settings import load_settings
    from rlm.web.app import make_app, read_token, redis_trouble
    from rlm.web.serve import bind, serve

    settings = load_settings(config).web
    token = read_token(settings.token, os.environ)
    with bind(host, port, has_token=bool(token)) as bound:
        where = _url(bound)
        with long_running(config, "web") as (store, wakeup, stop):
            asked = "a token is asked for" if token else "this host only, without a token"
            log.info("Serving %s/metrics and %s/healthz, %s", where, where, asked, extra={"action": "serve"})
            if reason := redis_trouble(store):
                log.warning("Nothing can be read yet: %s", reason, extra={"action": "serve"})
            app = make_app(store, token, settings.hosts, metrics_only=metrics_only)
            serve(app, bound, wakeup, stop)


def _url(bound: socket.socket) -> str:
    host, port = bound.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
