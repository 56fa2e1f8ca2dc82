"""`rlm queue`: what waits, event by event and in numbers; push items, clear the audit list, drop leftovers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from rlm.cli.common import CommandError, ExitCode, command, confirm, store_of, tell_unknown
from rlm.cli.options import Duration, all_of, all_option, several, yes_option
from rlm.cli.printing import print_json, say, show, table, wants_json
from rlm.core.documents import WaitingList
from rlm.core.errors import StoreError
from rlm.core.item import Place
from rlm.core.text import counted, one_line, span

if TYPE_CHECKING:
    from rlm.core.documents import Pushed, QueueStats
    from rlm.ledger.store import Store
    from rlm.ledger.waiting import EventFilter

#: Most warnings to print about lines; the others are only counted.
MOST_WARNINGS = 20
_STATES = (Place.PENDING, Place.LEFTOVER, Place.BACKING_OFF, Place.SPENT, Place.QUEUED)
_AFTER_IT = "Wait for its end, or `rlm cancel` it; then drop what it left over."


@click.group()
def queue() -> None:
    """See what waits, event by event or in numbers; push items, clear the audit list, drop leftovers."""


def _filter(item: str, **options: Any) -> EventFilter:
    from rlm.ledger.waiting import EventFilter

    return EventFilter(item=item.encode("utf-8", "backslashreplace").decode(), **options)  # invalid text matches no id


#: The options that choose events: the arguments of `_filter`.
event_filter = all_of(
    several("--type", "types", "TYPE", "Only events of this type."),
    click.option("--wallet", metavar="NAME", default="", help="Only events of this wallet."),
    click.option("--item", metavar="ID", default="", help="Only events of this item."),
    click.option(
        "--older-than",
        "older_seconds",
        type=Duration(),
        metavar="DURATION",
        help="Only events that have waited this long.",
    ),
)


@command(
    "rlm queue list",
    "rlm queue list --wallet wallet_001",
    "rlm queue list 100 --state leftover --type REBALANCE_NEEDED --older-than 10m",
    "rlm queue list 1000 --json | jq -r '.events[].event_id'",
    name="list",
    group=queue,
)
@click.argument("number", metavar="[N]", type=click.IntRange(1, 1_000_000_000), required=False)
@event_filter
@several("--state", "states", "STATE", f"Only events that are {', '.join(_STATES)}.", of=_STATES)
@click.option(
    "--after", type=click.IntRange(0, 1_000_000_000), metavar="PLACE", default=0, help="Go on where a page ended."
)
def list_events(config: Path | None, number: int | None, after: int, **options: Any) -> None:
    """List the first N waiting events (20; with --json all): type by type, then those in items on the audit list.

    They are pending in the open run or left over by the last; in back-off before another attempt; out of attempts in
    this run; or queued in an item. `rlm status` shows what is under way. An option given several times matches any of
    its values. At most 100,000 events are looked at; `--after` continues from there.

    `rlm queue list --json | rlm queue push` with another redis.prefix carries all that is unsettled over to there.
    """
    from rlm.admin.queue import list_waiting
    from rlm.ledger.waiting import MOST_LOOKED

    chosen, every = _filter(**options), number is None and wants_json()
    with store_of(config) as store:
        page = list_waiting(store, chosen, MOST_LOOKED if every else number or 20, after)
        while every and page.next is not None:
            more = list_waiting(store, chosen, MOST_LOOKED, page.next)
            page = WaitingList(events=(*page.events, *more.events), next=more.next)
        if not page.events and page.next is None:
            tell_unknown(store, chosen.types)
    print_json(page)
    rows = [
        [
            event.event_id,
            event.state.replace("_", " ") + (f" {span(event.due_in_seconds)}" if event.due_in_seconds else ""),
            event.priority,
            span(event.waiting_seconds),
            event.wallet_name,
        ]
        for event in page.events
    ]
    if rows:
        headings = ["event", "state", "priority", "waits for", "wallet"]
        table(headings, rows, right=["priority", "waits for"])
    if page.next is not None:
        show(f"\nMore: `rlm queue list --after {page.next}` with the same options.")
    elif not rows:
        show("No such event is waiting. `rlm queue stats` shows what is where, `rlm explain EVENT` explains one event.")


@command(
    "rlm queue drop --wallet wallet_001 --dry-run",
    "rlm queue drop --type REBALANCE_NEEDED --older-than 24h",
    "rlm queue drop --all --yes    # in a script",
    group=queue,
)
@event_filter
@all_option
@yes_option
@click.option("--dry-run", is_flag=True, help="Show how many it would be, and change nothing.")
def drop(config: Path | None, *, every: bool, yes: bool, dry_run: bool, **options: Any) -> None:
    """Remove leftovers of the last run for good: those that match the options, or --all. Asks first.

    Their ids are forgotten, too: the same event seen again is a new one, not a duplicate. While a run is open, nothing
    is left over and nothing is dropped; what that run does not send will be left over.
    """
    from rlm.admin.queue import drop_leftovers, leftovers
    from rlm.ledger.waiting import EventFilter

    wanted = _filter(**options)
    if every == (wanted != EventFilter()):
        raise click.UsageError("Choose leftovers with options, or --all; `rlm queue list` shows them.")
    with store_of(config) as store:
        if (run := store.runs.current()) is not None:
            raise CommandError(f"Run {run.id} is open, so nothing is left over. {_AFTER_IT}")
        left = leftovers(store, wanted)
        total = len(left)
        if not total:
            tell_unknown(store, wanted.types)
        if dry_run:
            print_json({"dropped": 0, "would_be_dropped": total})
            show(f"{counted(total, 'leftover event')} would be dropped. Nothing was changed.")
            return
        if total and not yes:
            confirm(f"Drop {counted(total, 'leftover event')} for good?", "dropped")
        done = drop_leftovers(store, left)
    print_json({"dropped": done.number})
    if done.is_open:
        raise CommandError(f"A run was opened meanwhile and took the others; {done.number:,} dropped. {_AFTER_IT}")
    show(f"{counted(done.number, 'leftover event')} dropped and forgotten: if pushed again, they are new.")


@command("rlm queue stats", "rlm queue stats --json | jq .by_type", group=queue)
def stats(config: Path | None) -> None:
    """Show how much waits where, by type, and how old the oldest is.

    "pending" counts all events that wait: in the ledger, and in the 100,000 oldest items on the audit list. The oldest
    event in the ledger is looked for among the first 200 of each priority.
    """
    from rlm.admin.queue import queue_stats

    with store_of(config) as store:
        numbers = queue_stats(store)
    print_json(numbers)
    _describe(numbers)


def _describe(stats: QueueStats) -> None:
    staged = f", {counted(stats.staged, 'item')} in staging" if stats.staged else ""
    show(f"{counted(stats.events, 'item')} on the audit list{staged}.")
    for number, noun, then in (
        (stats.processing, "event", " of the open run not yet settled; see `rlm status`."),
        (stats.leftover, "event", " left over for the next run."),
        (stats.failed, "dead letter", "; see `rlm failed list`."),
    ):
        if number:
            show(f"{counted(number, noun)}{then}")
    if not any(each.pending for each in stats.by_type.values()):
        show("No event waits. `rlm queue push FILE` pushes items; `rlm demo` shows how it all works.")
        return
    show()
    rows = [[name, f"{each.pending:,}", span(each.oldest_seconds)] for name, each in stats.by_type.items()]
    table(["type", "pending", "oldest"], rows, right=["pending", "oldest"])


@command(
    "rlm queue monitor",
    "rlm queue monitor --interval 10 | tee -a queue.log",
    "rlm queue monitor --json | jq -c .arriving_per_minute",
    group=queue,
)
@click.option("--interval", type=Duration(3600.0), metavar="DURATION", default=2.0, help="How often to look.")
def monitor(config: Path | None, interval: float) -> None:
    """Watch Redis and the queues: what waits, how old, and how it moves. Ctrl-C ends the view.

    On a terminal the picture is redrawn; elsewhere a line is printed if it has changed, with --json one document per
    line. Rates are over the time since the command began, at most the last minute.
    """
    from rlm.admin.queue import Monitor
    from rlm.cli.status import watch
    from rlm.terminal.live import View
    from rlm.terminal.queue import queue_line, queue_picture

    with store_of(config) as store:
        watch(Monitor(store).look, View(sys.stdout, queue_picture, queue_line, as_json=wants_json()), interval)


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
    from rlm.ledger.keys import longest_item

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
        pushed.waiting = store.intake.lengths()[1]
        print_json(pushed)
        _describe_push(store, pushed)
    if pushed.refused:
        raise SystemExit(int(ExitCode.FAILED))


def _describe_push(store: Store, pushed: Pushed) -> None:
    from rlm.ledger.fitness import unfit
    from rlm.ledger.processes import Role

    if pushed.bad:
        say(f"Warning: {counted(pushed.bad, 'item')} will become dead letters.")
    if pushed.refused:
        say(f"{counted(pushed.refused, 'line')} not pushed: too long (queue.max_item_bytes).")
    if not pushed.pushed:
        show("Nothing was pushed: there is no line with an item. `rlm queue push --help` shows what one looks like.")
        return
    show(f"{counted(pushed.pushed, 'item')} pushed; {pushed.waiting:,} on the audit list now.")
    if why := unfit(store):
        show(f"No run takes them until Redis is fit: {why}.")
    elif store.processes.alive(Role.SCHEDULER):
        show("The next tick takes them; `rlm start` starts a run now, `rlm plan` forecasts it.")
    else:
        show("No scheduler is running to take them: `rlm up` starts one, `rlm start --wait` a run.")


@command("rlm queue clear", "rlm queue clear --yes    # in a script", group=queue)
@yes_option
def clear(config: Path | None, *, yes: bool) -> None:
    """Remove the items that wait on the audit list, for good. Asks first.

    Only that list is cleared: what a run has taken, in staging or in the ledger, and dead letters stay.
    """
    with store_of(config) as store:
        staged, waiting = store.intake.lengths()
        if waiting and not yes:
            name = store.settings.queue.events
            confirm(f"Remove {counted(waiting, 'item')} from {name} for good, and any that arrive meanwhile?")
        cleared = store.intake.clear() if waiting else 0
    print_json({"cleared": cleared, "staged": staged})
    show(f"{counted(cleared, 'item')} removed from the audit list. Ledger, staging and dead letters are untouched.")
    if staged:
        show(f"{counted(staged, 'item')} in staging, left there by a drain: this run or the next takes them.")
