"""Runs: start one, see it, end it, look back."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import click

from rlm import report
from rlm.cli.common import (
    CommandError,
    ExitCode,
    config_option,
    counted,
    examples,
    fitting_table,
    is_coloured,
    is_terminal,
    json_option,
    print_json,
    say,
    show,
    store_of,
    styled,
    table,
)
from rlm.cli.completing import open_run_id, run_ids
from rlm.cli.following import (
    FOLLOW_SECONDS,
    beside,
    detached,
    follow_status,
    is_open,
    picture_of,
    progress_output,
    show_picture,
)
from rlm.cli.processes import volatile_option
from rlm.cli.watch import interval_option, look_once
from rlm.clock import system_clock
from rlm.errors import NoSuchRunError
from rlm.run import State
from rlm.store.processes import Role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rlm.run import Run
    from rlm.settings import Settings
    from rlm.signals import StopSignals, Wakeup
    from rlm.store import Store
    from rlm.view import Drawn

#: How long a scheduler has to take a request up, or a conductor to answer a cancel, seconds.
ANSWER_SECONDS = 5.0

#: How the states of finished runs look in a list.
STATE_KINDS = {State.COMPLETED: "ok", State.PARTIAL: "warn", State.CANCELLED: "warn", State.FAILED: "error"}
#: How often `rlm start --wait` tells of changes where there is no terminal, seconds.
TOLD_SECONDS = 10.0

_POLL_SECONDS = 0.05


@click.command(
    epilog=examples(
        "rlm start           # the scheduler of `rlm up` conducts it",
        "rlm start --wait    # until its end, conducted here if there is no scheduler",
        "rlm start --wait --json | jq .counts",
    )
)
@click.option("--wait", is_flag=True, help="Wait for the end; conduct the run here if no scheduler takes it up.")
@interval_option(FOLLOW_SECONDS)
@volatile_option
@config_option
@json_option
def start(config: Path | None, *, wait: bool, interval: float | None, allow_volatile: bool, as_json: bool) -> None:
    """Start a run now.

    The scheduler takes it up within 5 s. If none does, `--wait` conducts it here, with the supervisors that live or one
    of its own. Interrupted, it cancels a run it conducts, and lets go of one it does not.

    With --wait its progress is shown on stderr: drawn on a terminal, elsewhere a line every 10 s in which something has
    changed. Of a run conducted here the log tells, which a terminal shows above the picture.
    """
    if interval is not None and not wait:
        raise click.UsageError("--interval is for --wait: how often to look")
    from rlm import signals  # noqa: PLC0415

    wakeup = signals.Wakeup()
    with signals.StopSignals(wakeup) as stop, store_of(config) as store:
        reply = _ask_scheduler(store, stop, patient=not wait)
        if reply is not None and "open" in reply:
            raise CommandError(f"Run {reply['open']} is under way; see `rlm status`.")
        if reply is not None:
            run_id = reply["run_id"]
            record = _wait_for(store, run_id, stop, interval) if wait else None
        elif wait:
            record = _conduct_here(store, wakeup, stop, interval, allow_volatile=allow_volatile)
            run_id = record["run_id"]
        else:
            raise CommandError(
                "No scheduler took the run up. Start one with `rlm up` or `rlm scheduler`, or conduct it here: "
                "`rlm start --wait`."
            )
    if record is None:
        started = {"run_id": run_id, "state": State.DRAINING}
        print_json(started) if as_json else show(f"Run {run_id} has started; follow it with `rlm status`.")
    else:
        _tell(record, as_json=as_json)


def _ask_scheduler(store: Store, stop: StopSignals, *, patient: bool) -> dict[str, Any] | None:
    """Ask the scheduler for a run; None when nobody takes the request up in time.

    Where no scheduler is known at all, only a `patient` caller waits for one that may be coming up.
    """
    if not patient and store.leases.holder() is None and not store.processes.alive(Role.SCHEDULER):
        return None
    request = store.runs.request()
    until = system_clock.monotonic() + ANSWER_SECONDS
    while (reply := store.runs.reply(request)) is None:
        if (system_clock.monotonic() > until or stop.graceful) and store.runs.withdraw(request):
            if stop.graceful:
                raise CommandError("Interrupted before a run was started.")
            return None
        system_clock.sleep(_POLL_SECONDS)
    return reply


def _wait_for(store: Store, run_id: str, stop: StopSignals, interval: float | None) -> dict[str, Any]:
    """Show how a run gets on that another process conducts, until its record is there; Redis may go away meanwhile."""
    pause = interval or (FOLLOW_SECONDS if is_terminal(err=True) else TOLD_SECONDS)
    shown_at = float("-inf")
    with progress_output() as output:
        while True:
            record = look_once(store, lambda: store.runs.record(run_id) or {}, output)
            if record:
                return record
            if stop.graceful:
                raise CommandError(detached(run_id))
            if record is not None and system_clock.monotonic() - shown_at >= pause:
                shown_at = system_clock.monotonic()
                found = look_once(store, lambda: report.status(store, run_id, measured=False), output)
                if found is not None and is_open(found):
                    output.show(found)
            system_clock.sleep(_POLL_SECONDS)


def _conduct_here(
    store: Store, wakeup: Wakeup, stop: StopSignals, interval: float | None, *, allow_volatile: bool
) -> dict[str, Any]:
    """Conduct a run in this process, with a supervisor of our own where none lives."""
    from rlm import telemetry  # noqa: PLC0415
    from rlm.store.fitness import require_fit  # noqa: PLC0415

    telemetry.set_up(store.settings, "conductor")
    require_fit(store.client, allow_volatile=allow_volatile)
    from scheduler.byhand import HandConductor  # noqa: PLC0415  # Sentry is set up before a broker is built

    conductor = HandConductor(store, wakeup, stop, allow_volatile=allow_volatile)
    with ExitStack() as stack:
        stack.callback(conductor.resign)  # also where `campaign` raises: it may hold the lease by then
        conductor.campaign(ANSWER_SECONDS)
        drawn = None
        if is_terminal(err=True):
            from rlm.cli.aside import progress_aside  # noqa: PLC0415  # only where one draws

            drawn = stack.enter_context(progress_aside(store, interval or FOLLOW_SECONDS))
        if not store.processes.alive(Role.SUPERVISOR):
            stack.enter_context(own_supervisor(store.settings, drawn, allow_volatile=allow_volatile))
        conductor.finish_open()
        record = conductor.conduct()
    if record is None:
        raise CommandError("The run was closed by another process; see `rlm list`.")
    return record


@contextmanager
def own_supervisor(settings: Settings, drawn: Drawn | None, *, allow_volatile: bool) -> Iterator[None]:
    """Keep a supervisor running for as long as the block lasts, in a session of its own: Ctrl-C is for this process.

    What it says goes to stderr, above the picture where one is `drawn` there.
    """
    command = [sys.executable, "-m", "rlm", "supervisor"]
    command += ["--config", str(settings.source)] if settings.source else []
    command += ["--allow-volatile"] if allow_volatile else []
    said, environ = (subprocess.PIPE, os.environ | {"RLM_LOG_FORMAT": "text"}) if drawn else (None, None)
    child = subprocess.Popen(  # noqa: S603  # our own command
        command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=said or sys.stderr, stderr=said, env=environ
    )
    with ExitStack() as stack:
        if drawn and child.stdout and child.stderr:
            from rlm.cli.aside import lines_above  # noqa: PLC0415  # only where one draws

            stack.enter_context(lines_above(child.stdout, drawn))
            stack.enter_context(lines_above(child.stderr, drawn))
        try:
            yield
        finally:
            child.terminate()
            child.wait()


@click.command(
    epilog=examples(
        "rlm status",
        "rlm status --follow                     # until Ctrl-C, from run to run",
        "rlm status 20261125T101500123Z-1a2b -f  # until that run is closed",
        "rlm status --json | jq .seconds_left",
    )
)
@click.argument("run_id", metavar="[RUN]", required=False, shell_complete=run_ids)
@click.option("--follow", "-f", is_flag=True, help="Go on showing it, until the run named is closed, or Ctrl-C.")
@interval_option(FOLLOW_SECONDS)
@config_option
@json_option
def status(config: Path | None, run_id: str | None, *, follow: bool, interval: float | None, as_json: bool) -> None:
    """Show the current run: phase, countdown, progress by type, endpoint and budget, workers. Or that run.

    With --follow the picture is drawn over and over on a terminal; elsewhere there is a line whenever something has
    changed, with --json a document a line. Without RUN it goes on from run to run. Ctrl-C ends the view, not the run.
    """
    if interval is not None and not follow:
        raise click.UsageError("--interval is for --follow: how often to look")
    if follow:
        with store_of(config) as store:
            follow_status(store, run_id, interval or FOLLOW_SECONDS, as_json=as_json)
        return
    pretty = is_coloured() and not as_json
    with store_of(config) as store:
        found = report.status(store, run_id, measured=not pretty)
        if pretty:
            found = beside(store, found)
    if as_json:
        print_json(found)
    elif pretty:
        show_picture(picture_of(found))
    elif found["state"] == report.IDLE:
        last = f"The last run was {found['last']}." if found["last"] else "There has been none yet."
        tick = f" The last tick was at {found['last_tick']}." if found["last_tick"] else ""
        show(f"No run is open. {last}{tick}")
    else:
        _describe(found)


@click.command(epilog=examples("rlm result", "rlm result 20261125T101500123Z-1a2b", "rlm result --json | jq .by_type"))
@click.argument("run_id", metavar="[RUN]", required=False, shell_complete=run_ids)
@config_option
@json_option
def result(config: Path | None, run_id: str | None, as_json: bool) -> None:
    """Show the record of the last finished run, or of that one."""
    with store_of(config) as store:
        found = report.record(store, run_id)
    _show_record(found, as_json=as_json)


def _show_record(found: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(found)
    elif is_coloured():
        show_picture(picture_of(found))
    else:
        _describe(found)


@click.command("list", epilog=examples("rlm list", "rlm list 100 --json | jq '.[] | select(.state != \"completed\")'"))
@click.argument("number", metavar="[N]", type=click.IntRange(min=1), default=20)
@config_option
@json_option
def list_runs(config: Path | None, number: int, as_json: bool) -> None:
    """List the last N runs (20), newest first."""
    from rlm.archive import Archive, Kind  # noqa: PLC0415  # a command loads what it needs when it runs

    keys = ("run_id", "state", "started_at", "duration_seconds", "counts")
    with store_of(config) as store:
        records = store.runs.recent(number)
        older = Archive(store.settings.archive_dir).hint(Kind.RECORDS) if len(records) < number else ""
    entries = [{key: record[key] for key in keys} for record in records]
    if as_json:
        print_json(entries)
    elif not entries:
        show("No run has finished yet. Start one with `rlm start --wait`.")
    else:
        columns = ["taken", "carried_over", "completed", "failed", "leftover"]
        rows = [
            [
                entry["run_id"],
                styled(entry["state"], STATE_KINDS[entry["state"]]),
                entry["started_at"],
                f"{entry['duration_seconds']:.1f} s",
            ]
            + [str(entry["counts"][name]) for name in columns]
            for entry in entries
        ]
        headings = ["run", "state", "started", "took", *columns]
        spare = ["started", "carried_over", "taken"]  # the id of a run tells when it started
        fitting_table(headings, rows, lambda index: index > 2, spare=spare)  # noqa: PLR2004
        if older:
            show()
            show(older.strip())


@click.command(epilog=examples("rlm cancel"))
@click.argument("run_id", metavar="[RUN]", required=False, shell_complete=open_run_id)
@config_option
@json_option
def cancel(config: Path | None, run_id: str | None, as_json: bool) -> None:
    """End the current (or that) run now: calls under way are awaited, what was not sent is leftover."""
    from rlm import signals  # noqa: PLC0415

    wakeup = signals.Wakeup()
    with signals.StopSignals(wakeup) as stop, store_of(config) as store:
        run = store.runs.current()
        if run is None or run_id not in {None, run.id}:
            raise NoSuchRunError(f"Run {run_id!r} is not open." if run_id else "No run is open; nothing to cancel.")
        store.runs.cancel(run.id)
        store.processes.wake("scheduler")
        _tell(_await_close(store, run, wakeup, stop), as_json=as_json)


def _await_close(store: Store, run: Run, wakeup: Wakeup, stop: StopSignals) -> dict[str, Any]:
    """Wait until a run is closed; close it here when no conductor lives, or none answers."""
    until = system_clock.monotonic() + ANSWER_SECONDS
    while (record := store.runs.record(run.id)) is None:
        if stop.graceful:
            raise CommandError(f"Run {run.id} is being cancelled; see `rlm status`.")
        if system_clock.monotonic() > until and store.leases.holder() is None:
            from scheduler.byhand import HandConductor  # noqa: PLC0415

            conductor = HandConductor(store, wakeup, stop, allow_volatile=True)  # it opened there: close it there
            try:
                conductor.campaign(ANSWER_SECONDS)
                conductor.close_open()
            finally:
                conductor.resign()
        system_clock.sleep(_POLL_SECONDS)
    return record


def _tell(record: dict[str, Any], *, as_json: bool) -> None:
    """Print a record; a run that failed makes the command fail."""
    _show_record(record, as_json=as_json)
    if record["state"] == State.FAILED:
        say(f"Error: run {record['run_id']} failed: {record['failure']}")
        raise SystemExit(int(ExitCode.FAILED))


def _describe(found: dict[str, Any]) -> None:
    """Print a run, open or finished, for a person."""
    took = f"{found['duration_seconds']:.1f} s"
    left = f", {found['seconds_left']:.0f} s left" if "seconds_left" in found else f" after {took}"
    show(f"Run {found['run_id']} ({found['trigger']}): {found['state']}{left}")
    plan, workers = found["plan"], found["workers"]
    show(
        f"Planned: done {plan['forecast_seconds']:.1f} s after the first call (with the most workers no schedule could "
        f"before {plan['lower_bound_seconds']:.1f} s), {plan['expected_leftover']} left over"
    )
    if "forecast" in found:
        now = found["forecast"]
        show(
            f"By now: done {now['forecast_seconds']:.1f} s after the first call, {now['expected_leftover']} left over, "
            f"with {counted(now['workers'], 'worker')}. {_sentence(now['binds'])}"
        )
    elif found["counts"]["leftover"] and plan.get("binds"):
        show(f"As it was planned: {_sentence(plan['binds'])}")
    show(
        f"Workers: {plan['workers']} planned, of {plan['threads']} lanes each; {workers['peak']} at the most, "
        f"{workers['restarted']} replaced"
    )
    counts = found["counts"]
    show(f"Intake: {counts['invalid']} invalid, {counts['duplicates']} duplicates")
    show()
    columns = ["taken", "carried_over", "completed", "failed", "leftover"]
    headings = ["still to do" if name == "leftover" and "seconds_left" in found else name for name in columns]
    rows = [[name, *(str(entry[key]) for key in columns)] for name, entry in found["by_type"].items()]
    table(["type", *headings], [*rows, ["in all", *(str(counts[key]) for key in columns)]])
    show()
    called = ["calls", "completed", "throttled", "errors", "peak_in_window", "limit"]
    _table_by("endpoint", found["by_endpoint"], [*called, "p50_ms", "p95_ms"])
    if "by_budget" in found:
        show()
        _table_by("budget", found["by_budget"], called)
    resting = {
        name: entry["circuit"]
        for name, entry in [*found["by_endpoint"].items(), *found.get("by_budget", {}).items()]
        if entry.get("circuit", "closed") != "closed"
    }
    if resting:
        show()
        show(f"Not closed: {', '.join(f'{name} {word}' for name, word in resting.items())}; see `rlm endpoint list`")


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _table_by(what: str, entries: dict[str, dict[str, Any]], keys: list[str]) -> None:
    table([what, *keys], [[name, *(str(entry[key]) for key in keys)] for name, entry in entries.items()])
