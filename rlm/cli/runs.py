"""Runs: start, show, cancel and list them."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import click

from rlm.cli import uncollected
from rlm.cli.common import CommandError, ExitCode, command, opened, settings_of, stop_signals, store_of
from rlm.cli.options import number_argument, volatile_option
from rlm.cli.printing import print_json, show, styled, table, wants_json
from rlm.core.run import State
from rlm.core.text import counted, span

#: The style of the states of finished runs in a list.
STATE_KINDS = {State.COMPLETED: "ok", State.PARTIAL: "warn", State.CANCELLED: "warn", State.FAILED: "error"}


@command(
    "rlm start           # the scheduler of `rlm up` conducts it",
    "rlm start --wait    # until its end, conducted here if there is no scheduler",
    "rlm start --wait --json | jq .counts",
    "rlm start --dry-run    # what it would come to",
)
@click.option("--wait", is_flag=True, help="Wait for the end; conduct the run here if no scheduler takes it up.")
@click.option("--dry-run", is_flag=True, help="Start nothing: print what it would come to, as `rlm plan` does.")
@volatile_option
def start(config: Path | None, *, wait: bool, dry_run: bool, allow_volatile: bool) -> None:
    """Start a run now.

    The scheduler takes it up within 5 s. If none does, `--wait` conducts it here, with the live supervisors or one of
    its own. If interrupted, the command cancels a run that it conducts, leaves any other alone, and exits with 130
    either way.

    With --wait the progress is shown on stderr: drawn on a terminal, elsewhere as a line every 10 s if something has
    changed; the log, if the run is conducted here. Exits with 1 if the run or every call of it failed.
    """
    if dry_run:
        from rlm.cli.plan import print_verdict

        print_verdict(config)
        return
    with ExitStack() as stack:
        with uncollected():  # the run waits for these imports
            stop = stack.enter_context(stop_signals())
            settings = settings_of(config, warns=True)
            from rlm.admin.start_run import ask_scheduler, started
            from rlm.cli.starting import check_uninterrupted, wait_for

            store = stack.enter_context(opened(settings, keeps_server=wait))
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
            from rlm.cli.by_hand import conduct_here

            record = conduct_here(store, stop, allow_volatile=allow_volatile)
    from rlm.cli.status import show_run, tell

    if stop.graceful and record.state == State.CANCELLED:
        show_run(record)
        left = counted(record.counts.leftover, "event")
        words = f"Interrupted: run {record.run_id} was cancelled; {left} left over for the next run."
        raise CommandError(words, ExitCode.INTERRUPTED)
    tell(record, waited=True)


@command(
    "rlm status",
    "rlm status --follow                     # until Ctrl-C, from run to run",
    "rlm status 20261125T101500123Z-1a2b -f  # until that run is closed",
    "rlm status --json | jq .seconds_left",
)
@click.argument("run_id", metavar="[RUN]", required=False)
@click.option("--follow", "-f", is_flag=True, help="Keep showing it until RUN is closed or Ctrl-C.")
def status(config: Path | None, run_id: str | None, *, follow: bool) -> None:
    """Show the current run, or RUN: phase, countdown, progress by type, endpoint and budget, workers.

    RUN is the id of a run, or a beginning that no other id has.

    With --follow the picture is redrawn each second on a terminal; elsewhere a line is printed whenever something has
    changed, with --json one document per line. Ctrl-C ends the view, not the run.
    """
    from rlm.admin import report
    from rlm.cli.status import beside, follow_status, show_run

    with store_of(config) as store:
        run_id = report.find_run(store, run_id)
        if follow:
            follow_status(store, run_id)
            return
        document = beside(store, report.status(store, run_id, measured=wants_json()))
    show_run(document)


@command("rlm result", "rlm result 20261125T101500123Z-1a2b", "rlm result --json | jq .by_type")
@click.argument("run_id", metavar="[RUN]", required=False)
def result(config: Path | None, run_id: str | None) -> None:
    """Show the record of the last finished run, or of RUN.

    RUN is the id of a run, or a beginning that no other id has.
    """
    from rlm.admin import report
    from rlm.cli.status import show_run

    with store_of(config) as store:
        record = report.record(store, report.find_run(store, run_id))
    show_run(record)


@command("rlm list", "rlm list 100 --json | jq '.[] | select(.counts.leftover > 0)'", name="list")
@number_argument
def list_runs(config: Path | None, number: int) -> None:
    """List the last N runs (20), newest first."""
    from rlm.admin import report
    from rlm.admin.runs import entry_of, runs_page

    with store_of(config) as store:
        entries = [entry_of(record) for record in runs_page(store, number).records]
        nothing = "" if entries else report.none_finished(store)
    print_json(entries)
    if nothing:
        show(nothing)
        return
    columns = ["taken", "carried_over", "completed", "failed", "leftover"]
    rows = [
        [
            entry.run_id,
            styled(entry.state, STATE_KINDS.get(State(entry.state), "warn")),
            entry.started_at,
            span(entry.duration_seconds),
            *(str(getattr(entry.counts, name)) for name in columns),
        ]
        for entry in entries
    ]
    table(["run", "state", "started", "took", *columns], rows, right=["took", *columns])


@command("rlm cancel")
@click.argument("run_id", metavar="[RUN]", required=False)
def cancel(config: Path | None, run_id: str | None) -> None:
    """End the current run, or RUN, now: calls under way are awaited, what was not sent is leftover.

    RUN is the id of a run, or a beginning that no other id has.
    """
    from rlm.admin import runs
    from rlm.cli.starting import await_close
    from rlm.cli.status import tell

    with stop_signals() as stop, store_of(config) as store:
        run = runs.open_run(store, run_id)
        runs.cancel(store, run)
        tell(await_close(store, run, stop))
