"""Runs: start, show, cancel and list them; forecast one (`rlm plan`).

A run that waits for its command waits for what that imports: the rest is imported once the scheduler is asked.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import astuple

from rlm.admin.errors import InterruptedByHandError
from rlm.admin.start_run import ANSWER_SECONDS, POLL_SECONDS, ask_scheduler, started
from rlm.cli.common import (
    command,
    flag,
    number_argument,
    opened,
    print_json,
    say_error,
    settings_of,
    several,
    show,
    stop_signals,
    store_command,
    table,
    volatile_option,
    wants_json,
)
from rlm.core.clock import system_clock
from rlm.core.documents import Record, RunStatus
from rlm.core.errors import FencedError, StoreError
from rlm.core.run import State, Trigger, new_run
from rlm.core.text import counted

if TYPE_CHECKING:
    from rlm.admin.planning import Forecast, Question
    from rlm.core.documents import View as Shown
    from rlm.core.run import Run
    from rlm.ledger.store import Store
    from rlm.processes.signals import StopSignals

log = logging.getLogger(__name__)

_run_argument = click.Argument(["run_id"], metavar="[RUN]", required=False)


@command(
    "rlm start           # the scheduler of `rlm up` conducts it",
    "rlm start --wait    # until its end, conducted here if there is no scheduler",
    "rlm start --wait --json | jq .counts",
    params=[
        flag("--wait", "Wait for the end; conduct the run here if no scheduler takes it up."),
        flag("--dry-run", "Start nothing: print what it would come to, as `rlm plan` does."),
        volatile_option,
    ],
)
def start(config: Path | None, *, wait: bool, dry_run: bool, allow_volatile: bool) -> None:
    """Start a run now.

    The scheduler takes it up within 5 s. If none does, `--wait` conducts it here, with the live supervisors or one of
    its own, and cancels it if interrupted. Exits with 1 if the run or every call of it failed.
    """
    if dry_run:
        show(_planned(config)[1][0].verdict.sentence)
        return
    with ExitStack() as stack:
        stop = stack.enter_context(stop_signals())
        store = stack.enter_context(opened(settings_of(config), keeps_server=wait))
        run_id = ask_scheduler(store, patient=not wait, is_stopped=lambda: bool(stop.graceful))
        if run_id is None:
            check_uninterrupted(stop)
        if not wait:
            print_json(started(store, run_id))
            show(f"Run {run_id} has started; follow it with `rlm status`.")
            return
        if run_id is not None:
            record = wait_for(store, run_id, stop)
        else:
            record = conduct_here(store, stop, allow_volatile=allow_volatile)
    _show_run(record)
    if stop.graceful and record.state == State.CANCELLED:
        left = counted(record.counts.leftover, "event")
        words = f"Interrupted: run {record.run_id} was cancelled; {left} left over for the next run."
        raise InterruptedByHandError(words)
    _end_with(record, waited=True)


def check_uninterrupted(stop: StopSignals) -> None:
    """End the command if a signal came before a run was started."""
    if stop.graceful:
        raise InterruptedByHandError("Interrupted before a run was started.")


def wait_for(store: Store, run_id: str, stop: StopSignals) -> Record:
    """Show the progress of a run that another process conducts; return its record. Redis may go away meanwhile."""
    from rlm.admin import report
    from rlm.admin.words import line
    from rlm.terminal.live import View
    from rlm.terminal.pictures import picture_of

    shown_at = float("-inf")
    with View(sys.stderr, picture_of, line, transient=True) as view:
        while not stop.graceful:
            try:
                if record := store.runs.record(run_id):
                    return record
                if system_clock.monotonic() - shown_at >= (1.0 if view.is_drawn else 10.0):
                    shown_at = system_clock.monotonic()
                    now = report.status_of(store, run_id)
                    if isinstance(now, RunStatus):
                        view.show(now)
            except StoreError as error:
                view.trouble(str(error))
            stop.wait(5 * POLL_SECONDS)  # others may wait as well
    raise InterruptedByHandError(f"Run {run_id} goes on; `rlm status` shows it, `rlm cancel` ends it.")


def conduct_here(store: Store, stop: StopSignals, *, allow_volatile: bool) -> Record:
    """Conduct a run in this process, with a supervisor of its own if none is alive; return the record.

    One that a dead conductor left open is finished first.
    """
    from rlm import telemetry
    from rlm.ledger.processes import Role
    from rlm.processes.group import ProcessGroup
    from rlm.processes.signals import Layer, grace_seconds

    settings = store.settings
    telemetry.set_up(settings, "conductor")
    store.require_fit(allow_volatile=allow_volatile)
    with ExitStack() as stack:
        last = stack.enter_context(ExitStack())  # whoever leads next must not count on the supervisor of this command
        # The entry of one that was killed just now stands for a while, and nobody would start workers.
        living = store.processes.register().living(Role.SUPERVISOR)
        if not [each for each in living if each.host != settings.host_name or Path(f"/proc/{each.pid}").exists()]:
            # It comes up while this process imports the conductor.
            group = ProcessGroup(stop, grace_seconds(settings, Layer.GROUP))
            stack.callback(group.end)
            config = ["--config", str(settings.source)] if settings.source else []
            volatile = ["--allow-volatile"] if allow_volatile else []
            group.start(["supervisor", *config, *volatile], stdout=sys.stderr, stderr=subprocess.STDOUT)
        from scheduler.conductor import Conductor  # Sentry is set up before a broker is built
        from scheduler.housekeeping import Housekeeper
        from scheduler.office import Office

        office = Office(store, stop, allow_volatile=allow_volatile, cancels=True)
        last.callback(office.resign)  # also if `take` raises, since it may hold the lease by then
        # A scheduler may have come up meanwhile: whoever gets the lease conducts.
        run_id = ask_scheduler(store, patient=True, is_stopped=lambda: office.stop.graceful or office.campaign())
        if run_id is None:
            office.take(0)
            check_uninterrupted(stop)
            if run := store.runs.current():
                extra = {"action": "resume", "run_id": run.id}
                log.info("Run %s was left open; it is finished first", run.id, extra=extra)
                Conductor(office, run).conduct()
            check_uninterrupted(stop)
            run = new_run(Trigger.MANUAL, store.now(), settings.run.window_seconds, settings.revision)
            run_id = store.runs.open(office.token, run, store.ledger.types())
            with suppress(FencedError):  # another process goes on with the run, or closes it, which is overdue
                if (run := store.runs.current()) and run.id == run_id:
                    Conductor(office, run).conduct()
                    Housekeeper(office).step()
        return store.runs.record(run_id) or wait_for(store, run_id, stop)


@store_command("rlm status", "rlm status --json | jq .seconds_left", params=[_run_argument])
def status(store: Store, run_id: str | None) -> None:
    """Show the current run, or RUN: phase, countdown, progress by type, endpoint and budget, workers.

    RUN is the id of a run, or a beginning that no other id has.
    """
    from rlm.admin import report

    _show_run(report.status_of(store, run_id) if run_id else report.now(store))


@store_command("rlm result", "rlm result 20261125T101500123Z-1a2b", params=[_run_argument])
def result(store: Store, run_id: str | None) -> None:
    """Show the record of the last finished run, or of RUN, which is an id or a beginning that no other id has."""
    from rlm.admin import report

    _show_run(report.record(store, report.find_run(store, run_id)))


def _show_run(document: Shown) -> None:
    """Print a status or record: as JSON, or as a picture, which is plain text in a pipe."""
    print_json(document)
    if not wants_json():
        from rlm.terminal.live import console_on
        from rlm.terminal.pictures import picture_of

        console = console_on(sys.stdout)
        with console.capture() as captured:  # where the reader has gone rich itself would end the process, with 1
            console.print(picture_of(document))
        click.echo(captured.get(), nl=False, color=True)


def _end_with(record: Record, *, waited: bool = False) -> None:
    """Raise SystemExit if a run failed, or if it was `waited` for and every call of it failed."""
    if waited and record.every_call_failed:
        say_error(f"every call of run {record.run_id} failed: {record.failures}")
    elif record.state == State.FAILED:
        say_error(f"run {record.run_id} failed: {record.failure}")
    else:
        return
    raise SystemExit(1)


@store_command("rlm list 100 --json | jq '.[] | select(.counts.leftover > 0)'", name="list", params=[number_argument])
def list_runs(store: Store, number: int) -> None:
    """List the last N runs (20), newest first."""
    from rlm.admin import report

    entries = report.listed(store, number)
    print_json(entries)
    if not entries:
        show(report.none_finished(store))
        return
    rows = [
        [each.run_id, each.state, each.started_at, each.duration_seconds, *astuple(each.counts)[:5]] for each in entries
    ]
    table("run|state|started|#took|#taken|#carried over|#completed|#failed|#leftover", rows)


@store_command("rlm cancel", params=[_run_argument])
def cancel(store: Store, run_id: str | None) -> None:
    """End the current run, or RUN, now: calls under way are awaited, what was not sent is leftover."""
    from rlm.admin import report

    with stop_signals() as stop:
        run = report.open_run(store, run_id)
        report.cancel(store, run)
        record = _await_close(store, run, stop)
    _show_run(record)
    _end_with(record)


def _await_close(store: Store, run: Run, stop: StopSignals) -> Record:
    """Wait until a run is closed and return its record; close it here if no conductor answers."""
    until = system_clock.monotonic() + ANSWER_SECONDS
    while (record := store.runs.record(run.id)) is None:
        if stop.graceful:
            raise InterruptedByHandError(f"Run {run.id} is being cancelled; see `rlm status`.")
        if system_clock.monotonic() > until and store.leases.read().holder is None:
            from scheduler.conductor import Conductor
            from scheduler.office import Office

            office = Office(store, stop, allow_volatile=True, cancels=True)  # whatever opened it may close
            try:
                office.take(ANSWER_SECONDS)
                Conductor(office, run).await_end()
            finally:
                office.resign()
        system_clock.sleep(POLL_SECONDS)
    return record


@command(
    "rlm plan",
    "rlm plan --count REBALANCE_NEEDED=500 --add-endpoint REBALANCE_NEEDED=a5",
    "rlm plan --set types.REBALANCE_NEEDED.rate_limit=60/minute --workers 10",
    params=[
        several("--count counts", "TYPE=N", "Plan for N events of a type; repeatable."),
        click.Option(["--workers"], type=click.IntRange(1, 1000), metavar="N", help="With exactly N workers."),
        several("--set told", "KEY=VALUE", "With this value of a setting; repeatable."),
        several("--add-endpoint add", "TYPE=NAME", "With one more endpoint of a type, of this name; repeatable."),
    ],
)
def plan(*, config: Path | None, **options: Any) -> None:
    """Forecast a run without starting it: workers, when it is done, what will be left over, what binds.

    Without --count the forecast is for what waits now and for the windows as they are; with --count it is for those
    numbers, and for windows that are all open. --workers, --set and --add-endpoint ask what if; the answer is shown
    beside today's. Nothing is taken, sent or changed.
    """
    from rlm.admin.planning import side_by_side

    question, forecasts = _planned(config, **options)
    titles = ("Today", f"What if ({' '.join(question.asked.assumptions)})")[: len(forecasts)]
    if not forecasts[-1].events:
        show("Nothing to do. `rlm plan --count TYPE=N` plans for a number; `rlm queue push FILE` pushes items.")
        return
    for title, forecast in zip(titles, forecasts, strict=True):
        show(f"{title}: {forecast.verdict.sentence}")
    show()
    table("|#today|#what if" if titles[1:] else "|#today", side_by_side(*forecasts))
    if forecasts[-1].outlook:
        show(f"\n{forecasts[-1].outlook}")


def _planned(config: Path | None, **options: Any) -> tuple[Question, Sequence[Forecast]]:
    from rlm.admin.planning import PlanAsk, answer, read_question, view_of

    settings = settings_of(config)
    question = read_question(settings, PlanAsk(**options))
    with opened(settings) as store:
        forecasts = answer(store, question)
    print_json(view_of(forecasts, question))
    return question, forecasts
