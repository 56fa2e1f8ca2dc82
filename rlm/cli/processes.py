"""The long-running processes, as the Procfile starts them, and `rlm up`, which runs all of them in one terminal."""

from __future__ import annotations

import logging
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from msgspec.structs import astuple

from rlm.cli.common import (
    command,
    log_format_option,
    print_json,
    settings_of,
    show,
    stop_signals,
    store_command,
    table,
    volatile_option,
)
from rlm.core.errors import ConfigurationError, StoreError, StoreUnfitError

if TYPE_CHECKING:
    from rlm.ledger.store import Store
    from rlm.processes.signals import StopSignals
    from rlm.settings import Settings

_options = [volatile_option, log_format_option]

#: What is used without a configuration file.
DEFAULTS = "the built-in defaults; `rlm init` writes a file"

log = logging.getLogger(__name__)


@contextmanager
def long_running(
    settings: Settings, role: str, *, allow_volatile: bool | None = None, answer_seconds: float = 5.0
) -> Iterator[tuple[Store, StopSignals]]:
    """Set up a process that runs until a signal: log, title, store; yield the store and the signals.

    Redis need not answer if `allow_volatile` is None; else it must be fit. Each command waits `answer_seconds` for its
    answer.

    Import modules that build a broker inside the block, because Sentry is set up here and must come first.
    """
    from setproctitle import setproctitle

    from rlm import telemetry
    from rlm.ledger.store import Store

    with stop_signals(shows_life=True) as stop:
        telemetry.set_up(settings, role)
        setproctitle(f"rlm {role}")
        log.info("The configuration is %s", settings.source or DEFAULTS, extra={"action": "configure"})
        with Store(settings, keeps_server=True, answer_seconds=answer_seconds) as store:
            if allow_volatile is not None:
                store.require_fit(allow_volatile=allow_volatile)
            yield store, stop


@command("rlm scheduler", "rlm scheduler --config /etc/rlm/rlm.toml", params=_options, prints_data=False)
def scheduler(config: Path | None, allow_volatile: bool) -> None:
    """Start runs on the wall clock and conduct them. TERM hands an open run over; its calls go on."""
    with long_running(settings_of(config), "scheduler", allow_volatile=allow_volatile) as (store, stop):
        from scheduler.service import SchedulerService

        SchedulerService(store, stop, allow_volatile=allow_volatile).run()


@command("rlm supervisor", "rlm supervisor --config /etc/rlm/rlm.toml", params=_options, prints_data=False)
def supervisor(config: Path | None, allow_volatile: bool) -> None:
    """Keep this host's share of the wanted workers alive. TERM lets calls in flight end; a second TERM does not.

    From the first TERM on the other hosts take the share over.
    """
    from rlm.processes.launcher import spawn, start_template

    settings = settings_of(config)
    reporting = ["rlm.telemetry.sentry"] if settings.sentry_dsn else []
    start_template(["actors.preload", "rlm.cli", *reporting])  # it imports while this process does
    with long_running(settings, "supervisor", allow_volatile=allow_volatile) as (store, stop):
        from rlm.admin.watch import Watch
        from rlm.processes.supervisor import Supervisor

        made = Supervisor(store, partial(spawn, "actors.worker", "run_worker", settings), stop)
        watch = Watch(store, lambda: made.is_deputy and not stop.graceful)
        watch.start()
        made.run()
        watch.stop()


@click.group()
def worker() -> None:
    """Start a worker by hand; list the workers."""


@command("rlm worker start", name="start", group=worker, params=_options, prints_data=False)
def start_worker(config: Path | None, allow_volatile: bool) -> None:
    """Run one worker in the foreground, beside those of the supervisors."""
    from actors.worker import run_worker

    settings = settings_of(config)
    worker_id = f"{settings.host_name}:{os.getpid()}:{os.urandom(4).hex()}"
    run_worker(settings, worker_id, allow_volatile=allow_volatile)


@store_command("rlm worker list", "rlm worker list --json | jq length", name="list", group=worker)
def list_workers(store: Store) -> None:
    """List the workers: where and since when they run, and how many events each works on; the hosts with their shares.

    With --json, the workers alone.
    """
    from rlm.admin.report import hosts, worker_list
    from rlm.admin.words import doing

    workers, places = worker_list(store), hosts(store)
    print_json(workers)
    if workers:
        rows = [
            [each.pid, each.host, each.sleeping or doing(each), each.threads, each.busy, each.started_at]
            for each in workers
        ]
        table("#pid|host|what it does|#threads|#busy|started at", rows)
    else:
        show("No worker is running; `rlm supervisor` starts them when a run needs them.")
    if places:
        show()
        table("host|state|#capacity|#share|#workers|scheduler", map(astuple, places))


@command("rlm web", params=[log_format_option], prints_data=False)
def web(*, config: Path | None) -> None:
    """Serve the dashboard, JSON, metrics for Prometheus and a health check over HTTP. TERM ends it within a second.

    / is the dashboard. /api has the JSON of the commands, for reading and for orders; /openapi.json describes it.
    /metrics is for Prometheus. /healthz answers 200 while Redis answers and a scheduler leads, else 503 and why.

    It listens on web.listen, and waits for it while another process does. Outside the loopback interface it needs a
    token (web.token): a program sends "Authorization: Bearer TOKEN", a browser logs in. The Host of a request must be
    this host, or listed in web.hosts.
    """
    from rlm.web.app import make_app, read_token
    from rlm.web.serve import bind, serve

    settings = settings_of(config)
    token = read_token(settings.web.token, os.environ)
    with long_running(settings, "web", answer_seconds=2.0) as (store, stop):  # its users want to know soon
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


@command("rlm up", "rlm up --config /etc/rlm/rlm.toml", params=_options, prints_data=False)
def up(config: Path | None, allow_volatile: bool) -> None:
    """Run all processes of the Procfile in this terminal.

    They are those of the Procfile beside the configuration file or, without one, a scheduler, a supervisor and the
    dashboard on http://127.0.0.1:8088. Variables in a .env file of the current directory are set for them, unless the
    environment has them.

    TERM or Ctrl-C stops them: workers finish the calls in flight. A second one ends all at once. If one process ends by
    itself, all are stopped, and this command exits with its exit code.
    """
    from honcho.environ import parse
    from setproctitle import setproctitle

    from rlm.cli.foreman import Foreman, LinePrinter
    from rlm.ledger.store import url_in_use
    from rlm.processes.signals import Layer, grace_seconds
    from rlm.settings import load_settings
    from rlm.settings.secrets import mask_url
    from rlm.telemetry.logs import FORMAT_VARIABLE, is_coloured, is_json

    setproctitle("rlm up")
    environ = {**parse(_read(Path(".env").absolute()) or ""), **os.environ}
    settings = load_settings(config, environ)
    # The processes see only a pipe, and this installation's `rlm` must be found first.
    as_json, coloured = is_json(environ, sys.stdout), is_coloured(environ, sys.stdout)
    environ |= {FORMAT_VARIABLE: "json" if as_json else "text"} | ({"FORCE_COLOR": "1"} if coloured else {})
    environ |= {"RLM_CONFIG": str(settings.source)} if settings.source else {}
    environ |= {"RLM_ALLOW_VOLATILE": "1"} if allow_volatile else {}
    environ["PATH"] = os.pathsep.join([sysconfig.get_path("scripts"), environ.get("PATH", os.defpath)])
    foreman = Foreman(LinePrinter(sys.stdout, as_json=as_json, coloured=coloured), grace_seconds(settings, Layer.GROUP))
    root = settings.source.parent if settings.source else Path.cwd()
    for name, words in _commands(root / "Procfile").items():
        foreman.add_process(name, words, env=environ, cwd=str(root))
    foreman.say(f"The configuration is {settings.source or DEFAULTS}; Redis is at {mask_url(url_in_use(settings))}")
    raise SystemExit(foreman.run())


def _commands(procfile: Path) -> Mapping[str, str]:
    """Return the processes of a Procfile by name; those of the one that `rlm init` writes if there is none."""
    from honcho.environ import parse_procfile

    from rlm.settings.layers import FIRST

    text = _read(procfile)
    try:
        commands: dict[str, str] = parse_procfile(_read(FIRST / "Procfile") if text is None else text).processes
    except AssertionError:  # a name is repeated
        commands = {}
    if not commands:
        raise ConfigurationError(f"file {procfile}: has no process, or one twice; a line is NAME: COMMAND")
    return commands


def _read(path: Path) -> str | None:
    """Return the text of a file that the user trusts; None if there is none."""
    from rlm.settings.layers import read_trusted

    try:
        return read_trusted(path).decode().replace("\r\n", "\n") if os.path.lexists(path) else None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"file {path}: cannot be used: {error}") from error
