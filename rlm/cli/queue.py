"""`rlm queue`: show how much waits and how old it is, push items, clear the audit list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from rlm.cli.common import ExitCode, command, confirm, store_of
from rlm.cli.events import drop, list_events
from rlm.cli.options import interval_option, sure_flags
from rlm.cli.printing import print_json, say, show, show_words, table
from rlm.core.errors import StoreError
from rlm.core.text import counted, one_line, span

if TYPE_CHECKING:
    from rlm.core.documents import Pushed, QueueStats

#: Default seconds between two looks of `rlm queue monitor`.
MONITOR_SECONDS = 2.0
#: Most warnings to print about lines; the others are only counted.
MOST_WARNINGS = 20


@click.group()
def queue() -> None:
    """See what waits, event by event or in numbers; push items, clear the audit list, drop leftovers."""


queue.add_command(list_events)
queue.add_command(drop)


@command("rlm queue stats", "rlm queue stats --json | jq .by_type", group=queue)
def stats(config: Path | None) -> None:
    """Show how much waits where, by type, and how old the oldest is.

    "pending" counts all events that wait: in the ledger, and in the 100,000 oldest items on the audit list. The oldest
    event in the ledger is looked for among the first 200 of each priority.
    """
    from rlm.admin.queue import queue_stats

    with store_of(config) as store:
        found = queue_stats(store)
    print_json(found)
    _describe(found)


@command(
    "rlm queue monitor",
    "rlm queue monitor --interval 10 | tee -a queue.log",
    "rlm queue monitor --json | jq -c .arriving_per_minute",
    group=queue,
)
@interval_option(MONITOR_SECONDS)
def monitor(config: Path | None, interval: float | None) -> None:
    """Watch Redis and the queues: what waits, how old, and how it moves. Ctrl-C ends the view.

    On a terminal the picture is redrawn; elsewhere each look prints a line, with --json one document per line. Rates
    are over the time since the command began, at most the last minute.
    """
    from rlm.admin.monitoring import Monitor
    from rlm.cli.status import output_of, watch
    from rlm.terminal.queue import queue_line, queue_picture

    with store_of(config) as store:
        seen = Monitor(store)
        output = output_of(lambda found, _height: queue_picture(found), queue_line)
        watch(seen.look, output, interval or MONITOR_SECONDS)
    say("This view has ended; RLM goes on. `rlm queue stats` shows how it is.")


def _describe(found: QueueStats) -> None:
    staged = f", {counted(found.staged, 'item')} in staging" if found.staged else ""
    show_words(f"{counted(found.events, 'item')} on the audit list{staged}.")
    for name, noun, then in (
        ("processing", "event", " of the open run not yet settled; see `rlm status`."),
        ("leftover", "event", " left over for the next run."),
        ("failed", "dead letter", "; see `rlm failed list`."),
    ):
        if number := getattr(found, name):
            show_words(f"{counted(number, noun)}{then}")
    if not any(one.pending for one in found.by_type.values()):
        show_words("No event waits. `rlm queue push FILE` pushes items; `rlm demo` shows how it all works.")
        return
    show()
    rows = [[name, f"{one.pending:,}", span(one.oldest_seconds)] for name, one in found.by_type.items()]
    table(["type", "pending", "oldest"], rows)


@command(
    "rlm queue push items.jsonl",
    'echo \'{"id": "1", "wallet_name": "w", "events": ["REBALANCE_NEEDED"]}\' \\',
    "  | rlm queue push",
    group=queue,
)
@click.argument("file", type=click.File("rb"), default="-", metavar="[FILE|-]")
def push(config: Path | None, file: BinaryIO) -> None:
    """Push items onto the audit list: JSON lines from FILE, or from stdin.

    Each line that is not empty is pushed as it is; the first line is the oldest item. A line that will become a dead
    letter is pushed, too, with a warning for each and a summary. A line of more than a megabyte, or of more than
    `queue.max_item_bytes` if that is larger, is not pushed, and the command exits with 1.

    The document of `rlm queue list --json` is taken, too: its events are pushed, each as an item.
    """
    from rlm.admin.queue import push_lines, read_lines
    from rlm.core.documents import Pushed
    from rlm.ledger.fitness import unfit
    from rlm.ledger.keys import longest_item
    from rlm.ledger.processes import Role

    if file.isatty():
        say("Reading items from the terminal, one JSON object a line; Ctrl-D ends.")
    pushed = Pushed()
    with store_of(config) as store:
        lines = read_lines(file, longest_item(store.settings.queue.max_item_bytes) + len(b"\r\n"))
        try:
            for warning in push_lines(store, lines, pushed):
                if pushed.bad + pushed.refused <= MOST_WARNINGS:
                    say(f"Warning: {one_line(warning, 200)}")
        except StoreError:
            say(f"{counted(pushed.pushed, 'item')} had been pushed before this; the next may have been.")
            raise
        pushed.waiting, conducted = store.intake.lengths()[1], bool(store.processes.alive(Role.SCHEDULER))
        halted = unfit(store)
    _warn(pushed)
    print_json(pushed)
    _describe_push(pushed, conducted=conducted, unfit=halted)
    if pushed.refused:
        raise SystemExit(int(ExitCode.FAILED))


def _warn(pushed: Pushed) -> None:
    if pushed.bad:
        by_reason = ", ".join(f"{number:,} {reason}" for reason, number in pushed.faults.items())
        say(f"Warning: {counted(pushed.bad, 'item')} will become dead letters: {by_reason}.")
    if pushed.refused:
        say(f"{counted(pushed.refused, 'line')} not pushed: too long (queue.max_item_bytes).")


def _describe_push(pushed: Pushed, *, conducted: bool, unfit: str) -> None:
    if not pushed.pushed:
        show_words(
            "Nothing was pushed: there is no line with an item. `rlm queue push --help` shows what one looks like."
        )
        return
    show_words(f"{counted(pushed.pushed, 'item')} pushed; {pushed.waiting:,} on the audit list now.")
    if unfit:
        show_words(f"No run takes them until Redis is fit: {unfit}.")
    elif conducted:
        show_words("The next tick takes them; `rlm start` starts a run now, `rlm plan` forecasts it.")
    else:
        then = "`rlm up` starts one, `rlm start --wait` a run, `rlm plan` forecasts it."
        show_words(f"No scheduler is running to take them: {then}")


@command("rlm queue clear --dry-run", "rlm queue clear", "rlm queue clear --yes    # in a script", group=queue)
@sure_flags
def clear(config: Path | None, *, yes: bool, dry_run: bool) -> None:
    """Remove the items that wait on the audit list, for good. Asks first.

    Only that list is cleared: what a run has taken, in staging or in the ledger, and dead letters stay.
    """
    with store_of(config) as store:
        waiting = store.intake.lengths()[1]
        if waiting and not yes and not dry_run:
            name = store.settings.queue.events
            confirm(f"Remove {counted(waiting, 'item')} from {name} for good, and any that arrive meanwhile?")
        cleared = store.intake.clear() if waiting and not dry_run else 0
        staged, _ = store.intake.lengths()
    print_json({"cleared": cleared, "staged": staged, **({"would_clear": waiting} if dry_run else {})})
    if dry_run and waiting:
        show_words(f"{counted(waiting, 'item')} would be removed from the audit list, for good. Nothing was changed.")
    elif not cleared:
        show_words("Nothing to clear: no item waits on the audit list. `rlm queue stats` shows what is elsewhere.")
    else:
        untouched = "Ledger, staging and dead letters are untouched."
        show_words(f"{counted(cleared, 'item')} removed from the audit list. {untouched}")
    if staged:
        show_words(f"{counted(staged, 'item')} in staging, left there by a drain: this run or the next takes them.")
