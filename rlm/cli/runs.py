"""Runs: start one, see it, end it, look back."""

from __future__ import annotations

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
    json_option,
    print_json,
    say,
    show,
    store_of,
    table,
)
from rlm.cli.processes import volatile_option
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

#: How long a scheduler has to take a request up, or a conductor to answer a cancel, seconds.
ANSWER_SECONDS = 5.0

_POLL_SECONDS = 0.05


@click.command()
@click.option("--wait", is_flag=True, help="Wait for the end; conduct the run here if no scheduler takes it up.")
@volatile_option
@config_option
@json_option
def start(config: Path | None, wait: bool, allow_volatile: bool, as_json: bool) -> None:
    """Start a run now.

    The scheduler takes it up within 5 s. If none does, `--wait` conducts it here, with the supervisors that live or one
    of its own. Interrupted, it cancels a run it conducts, and lets go of one it does not.
    """
    from rlm import signals  # noqa: PLC0415

    wakeup = signals.Wakeup()
    with signals.StopSignals(wakeup) as stop, store_of(config) as store:
        reply = _ask_scheduler(store, stop, patient=not wait)
        if reply is not None and "open" in reply:
            raise CommandError(f"Run {reply['open']} is under way; see `rlm status`.")
        if reply is not None:
            run_id = reply["run_id"]
            record = _wait_for(store, run_id, stop) if wait else None
        elif wait:
            record = _conduct_here(store, wakeup, stop, allow_volatile=allow_volatile)
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


def _wait_for(store: Store, run_id: str, stop: StopSignals) -> dict[str, Any]:
    while (record := store.runs.record(run_id)) is None:
        if stop.graceful:
            raise CommandError(f"Run {run_id} goes on without this command; see `rlm status`.")
        system_clock.sleep(_POLL_SECONDS)
    return record


def _conduct_here(store: Store, wakeup: Wakeup, stop: StopSignals, *, allow_volatile: bool) -> dict[str, Any]:
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
        if not store.processes.alive(Role.SUPERVISOR):
            stack.enter_context(own_supervisor(store.settings, allow_volatile=allow_volatile))
        conductor.finish_open()
        record = conductor.conduct()
    if record is None:
        raise CommandError("The run was closed by another process; see `rlm list`.")
    return record


@contextmanager
def own_supervisor(settings: Settings, *, allow_volatile: bool) -> Iterator[None]:
    """Keep a supervisor running for as long as the block lasts, in a session of its own: Ctrl-C is for this process."""
    command = [sys.executable, "-m", "rlm", "supervisor"]
    command += ["--config", str(settings.source)] if settings.source else []
    command += ["--allow-volatile"] if allow_volatile else []
    child = subprocess.Popen(command, start_new_session=True, stdin=subprocess.DEVNULL, stdout=sys.stderr)  # noqa: S603  # our own command
    try:
        yield
    finally:
        child.terminate()
        child.wait()


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@config_option
@json_option
def status(config: Path | None, run_id: str | None, as_json: bool) -> None:
    """Show the current run: phase, countdown, progress by type, endpoint and budget, workers. Or that run."""
    with store_of(config) as store:
        found = report.status(store, run_id)
    if as_json:
        print_json(found)
    elif found["state"] == "idle":
        last = f"The last run was {found['last']}." if found["last"] else "There has been none yet."
        tick = f" The last tick was at {found['last_tick']}." if found["last_tick"] else ""
        show(f"No run is open. {last}{tick}")
    else:
        _describe(found)


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
@config_option
@json_option
def result(config: Path | None, run_id: str | None, as_json: bool) -> None:
    """Show the record of the last finished run, or of that one."""
    with store_of(config) as store:
        found = report.record(store, run_id)
    print_json(found) if as_json else _describe(found)


@click.command("list")
@click.argument("number", metavar="[N]", type=click.IntRange(min=1), default=20)
@config_option
@json_option
def list_runs(config: Path | None, number: int, as_json: bool) -> None:
    """List the last N runs (20), newest first."""
    from rlm.archive import Archive, Kind  # noqa: PLC0415  # a command loads what it needs when it runs

    keys = ("run_id", "state", "started_at", "duration_seconds", "counts")
    with store_of(config) as store:
        records = [store.runs.record(run_id) for run_id in store.runs.history(number)]
        older = Archive(store.settings.archive_dir).hint(Kind.RECORDS) if len(records) < number else ""
    entries = [{key: record[key] for key in keys} for record in records if record is not None]
    if as_json:
        print_json(entries)
    elif not entries:
        show("No run has finished yet. Start one with `rlm start --wait`.")
    else:
        columns = ["taken", "carried_over", "completed", "failed", "leftover"]
        rows = [
            [entry["run_id"], entry["state"], entry["started_at"], f"{entry['duration_seconds']:.1f} s"]
            + [str(entry["counts"][name]) for name in columns]
            for entry in entries
        ]
        table(["run", "state", "started", "took", *columns], rows, lambda index: index > 2)  # noqa: PLR2004
        if older:
            show()
            show(older.strip())


@click.command()
@click.argument("run_id", metavar="[RUN]", required=False)
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
    print_json(record) if as_json else _describe(record)
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
