"""The long-running processes, as the Procfile starts them: scheduler, supervisor, worker, web."""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rlm.cli.common import command, new_server, settings_of, stop_signals, store_of
from rlm.cli.options import log_format_option, process_options
from rlm.cli.printing import print_json, show, styled, table
from rlm.core.errors import StoreError, StoreUnfitError

if TYPE_CHECKING:
    from rlm.core.documents import Worker
    from rlm.ledger.store import Store
    from rlm.processes.signals import StopSignals
    from rlm.settings import Settings

log = logging.getLogger(__name__)

#: Seconds that `rlm web` waits for an answer of Redis: its users want to know soon if Redis is away.
_WEB_ANSWER_SECONDS = 2.0
_STATE_KINDS = {"ready": "ok", "starting": "busy", "stopping": "warn"}


@contextmanager
def long_running(settings: Settings, role: str, *, answer_seconds: float = 5.0) -> Iterator[tuple[Store, StopSignals]]:
    """Set up a process that runs until a signal: log, title, store; yield the store and the signals.

    Redis need not answer; a caller that needs it checks that. Each command waits `answer_seconds` for its answer.

    Import modules that build a broker inside the block, because Sentry is set up here and must come first.
    """
    from setproctitle import setproctitle

    from rlm import telemetry
    from rlm.ledger.store import Store

    with stop_signals(shows_life=True) as stop:
        telemetry.set_up(settings, role)
        setproctitle(f"rlm {role}")
        if words := new_server(settings):
            log.warning("%s", words, extra={"action": "use_defaults"})
        with Store(settings, keeps_server=True, answer_seconds=answer_seconds) as store:
            yield store, stop


@command("rlm scheduler", "rlm scheduler --config /etc/rlm/rlm.toml", prints_data=False)
@process_options
def scheduler(config: Path | None, allow_volatile: bool) -> None:
    """Start runs on the wall clock and conduct them. TERM hands an open run over, or closes it."""
    with long_running(settings_of(config), "scheduler") as (store, stop):
        from rlm.ledger.fitness import require_fit
        from scheduler.service import SchedulerService

        require_fit(store, allow_volatile=allow_volatile)
        SchedulerService(store, stop, allow_volatile=allow_volatile).run()


@command("rlm supervisor", "rlm supervisor --config /etc/rlm/rlm.toml", prints_data=False)
@process_options
def supervisor(config: Path | None, allow_volatile: bool) -> None:
    """Keep this host's share of the wanted workers alive. TERM lets calls in flight end; a second TERM does not.

    From the first TERM on the other hosts take the share over.
    """
    from rlm.processes.launcher import spawn, start_template

    settings = settings_of(config)
    reporting = ["rlm.telemetry.sentry"] if settings.sentry_dsn else []
    start_template(["actors.preload", "rlm.cli", *reporting])  # it imports while this process does
    with long_running(settings, "supervisor") as (store, stop):
        from rlm.admin.watch import Watch
        from rlm.ledger.fitness import require_fit
        from rlm.processes.supervisor import Supervisor

        require_fit(store, allow_volatile=allow_volatile)
        made = Supervisor(store, partial(spawn, "actors.worker", "run_worker", settings), stop)
        watch = Watch(store, lambda there: not stop.graceful and there.deputy == made.id)
        watch.start()
        made.run()
        watch.stop()


@click.group()
def worker() -> None:
    """Start a worker by hand; list the workers."""


@command("rlm worker start", name="start", group=worker, prints_data=False)
@process_options
def start_worker(config: Path | None, allow_volatile: bool) -> None:
    """Run one worker in the foreground, beside those of the supervisors."""
    from actors.worker import run_worker

    settings = settings_of(config)
    worker_id = f"{settings.host_name}:{os.getpid()}:{secrets.token_hex(4)}"
    run_worker(settings, worker_id, allow_volatile=allow_volatile)


@command("rlm worker list", "rlm worker list --json | jq length", name="list", group=worker)
def list_workers(config: Path | None) -> None:
    """List the workers: where and since when they run, and how many events each works on; the hosts with their shares.

    With --json, the workers alone.
    """
    from rlm.admin.attendance import hosts
    from rlm.admin.report import worker_list

    with store_of(config) as store:
        workers, places = worker_list(store), hosts(store)
    print_json(workers)
    if not workers:
        show("No worker is running. The conductor asks for some when a run needs them; `rlm supervisor` starts them.")
    else:
        names = ["pid", "host", "state", "threads", "busy", "started_at"]
        rows = [[each.pid, each.host, _state(each), each.threads, each.busy, each.started_at] for each in workers]
        table(names, rows, right=["pid", "threads", "busy"])
    if places:
        show()
        names = ["host", "state", "capacity", "share", "workers", "scheduler"]
        rows = [
            [
                each.host,
                styled(each.state, "warn" if each.state == "silent" else "ok"),
                *(getattr(each, name) for name in names[2:]),
            ]
            for each in places
        ]
        table(names, rows, right=names[2:5])


def _state(worker: Worker) -> str:
    if worker.other_configuration:
        return styled(f"{worker.state}, another configuration", "warn")
    return (
        styled("sleeping", "warn") if worker.sleeping else styled(worker.state, _STATE_KINDS.get(worker.state, "dim"))
    )


@command("rlm web", "RLM_WEB__LISTEN=[::]:8088 RLM_WEB__TOKEN=env:RLM_TOKEN rlm web", prints_data=False)
@log_format_option
def web(*, config: Path | None) -> None:
    """Serve the dashboard, JSON, metrics for Prometheus and a health check over HTTP. TERM ends it at once.

    / is the dashboard. /api has the JSON of the commands, for reading and for orders; /openapi.json describes it.
    /metrics has what the ledger holds at that moment, over all processes and hosts; one `rlm web` is enough for all of
    them. /healthz answers 200 while Redis answers and is fit and a scheduler leads, or is about to, else 503 with the
    reason. It also starts without Redis, and then reports that Redis is away.

    It listens on web.listen, and waits for it while another process does. On an address outside the loopback interface
    it starts only with a token (web.token), which is then required for all but /healthz: a program sends
    "Authorization: Bearer TOKEN", a browser logs in.

    The Host of a request must be this host's loopback, the address at which it arrived, or listed in web.hosts.
    """
    from rlm.web.app import make_app, read_token
    from rlm.web.serve import bind, serve

    settings = settings_of(config)
    token = read_token(settings.web.token, os.environ)
    with long_running(settings, "web", answer_seconds=_WEB_ANSWER_SECONDS) as (store, stop):
        address, _, port = settings.web.listen.rpartition(":")
        bound = bind(address.strip("[]"), int(port), stop, has_token=bool(token))
        if bound is None:
            return
        host, port = bound.getsockname()[:2]
        where = f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"
        log.info("Serving %s, %s a token", where, "with" if token else "without", extra={"action": "serve"})
        try:
            store.require_schema()
        except StoreUnfitError:
            raise
        except StoreError as error:
            log.warning("Nothing can be read yet: %s", error, extra={"action": "serve"})
        serve(make_app(store, token, settings.web.hosts), bound, stop)
