"""Events: what waits (`rlm queue`), what failed (`rlm failed`), one of them (`rlm explain`)."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import click
import msgspec
from msgspec.structs import astuple

from rlm.admin.text import one_line
from rlm.cli.common import (
    all_option,
    command,
    confirm,
    duration,
    flag,
    number_argument,
    print_json,
    say,
    say_error,
    settings_of,
    several,
    show,
    stop_signals,
    store_command,
    table,
    wants_json,
    yes_option,
)
from rlm.cli.endpoint import endpoint_table
from rlm.core.documents import ItemView
from rlm.core.errors import RunError, StoreError
from rlm.core.item import NOT_EMBEDDABLE, Reason
from rlm.core.text import counted, named, safe_line

if TYPE_CHECKING:
    from rlm.core.documents import EventView
    from rlm.ledger.store import Store


@click.group()
def queue() -> None:
    """See what waits, event by event or in numbers; push items, clear the audit list, drop leftovers."""


#: The options that choose events: the fields of an `EventFilter`.
_events = [
    several("--type", "TYPE", "Only events of this type."),
    click.Option(["--wallet"], metavar="NAME", default="", help="Only events of this wallet."),
    click.Option(["--item"], metavar="ID", default="", help="Only events of this item."),
    click.Option(["--older-than"], metavar="DURATION", help="Only events that have waited this long."),
]


@store_command(
    "rlm queue list --wallet wallet_001",
    "rlm queue list 100 --type REBALANCE_NEEDED --older-than 10m",
    name="list",
    group=queue,
    params=[
        click.Argument(["number"], metavar="[N]", type=click.IntRange(1, 1_000_000_000), required=False),
        *_events,
        click.Option(
            ["--after"], type=click.IntRange(0, 10**9), metavar="PLACE", default=0, help="Go on where a page ended."
        ),
    ],
)
def list_events(store: Store, number: int | None, after: int, **options: Any) -> None:
    """List the first N unsettled events (20; with --json all): type by type, then those in items on the audit list.

    An option given several times matches any of its values. At most 100,000 events are looked at; `--after` continues
    from there. `rlm queue list --json | rlm queue push` with another redis.prefix carries all that is unsettled there.
    """
    from rlm.admin.queue import EventFilter, list_waiting

    page = list_waiting(store, EventFilter(**options), number or (None if wants_json() else 20), after)
    print_json(page)
    if page.events:
        rows = [
            [each.event_id, each.state, each.priority, each.waiting_seconds, each.due_in_seconds, each.wallet_name]
            for each in page.events
        ]
        table("event|state|#priority|#waits for|#due in|wallet", rows)
    if page.next is not None:
        show(f"\nMore: `rlm queue list --after {page.next}` with the same options.")
    elif not page.events:
        show("No such event is unsettled; see `rlm queue stats` and `rlm explain EVENT`.")


@store_command(
    "rlm queue drop --wallet wallet_001 --dry-run",
    "rlm queue drop --all --yes    # in a script",
    name="drop",
    group=queue,
    params=[*_events, all_option, yes_option, flag("--dry-run", "Show how many it would be, and change nothing.")],
)
def drop_events(store: Store, *, every: bool, yes: bool, dry_run: bool, **options: Any) -> None:
    """Remove leftovers and retried events for good: those that match the options, or --all. Asks first.

    Their ids are forgotten, too: the same event seen again is a new one, not a duplicate. While a run is open, nothing
    is left over and nothing is dropped; what that run does not send will be left over.
    """
    from rlm.admin.queue import EventFilter, drop_leftovers, leftovers

    wanted, after_it = EventFilter(**options), "Wait for its end, or `rlm cancel` it; then drop what it left over."
    if every == bool(wanted):
        raise click.UsageError("Choose events with options, or --all; `rlm queue list` shows them.")
    if (run := store.runs.current()) is not None:
        raise RunError(f"Run {run.id} is open, so nothing is left over. {after_it}")
    left = leftovers(store, wanted)
    if dry_run:
        print_json({"dropped": 0, "would_be_dropped": len(left)})
        show(f"{counted(len(left), 'event')} would be dropped. Nothing was changed.")
        return
    if left and not yes:
        confirm(f"Drop {counted(len(left), 'event')} for good?")
    number = drop_leftovers(store, left)
    print_json({"dropped": number})
    if number < len(left) and store.runs.current():
        raise RunError(f"A run was opened meanwhile and took the others; {number:,} dropped. {after_it}")
    show(f"{counted(number, 'event')} dropped and forgotten: if pushed again, they are new.")


@store_command("rlm queue stats", "rlm queue stats --json | jq .by_type", name="stats", group=queue)
def show_stats(store: Store) -> None:
    """Show how much waits where, by type, in the ledger and the 100,000 oldest items, and how old the oldest is."""
    from rlm.admin.queue import queue_stats
    from rlm.admin.words import lengths, queue_rows

    stats = queue_stats(store)
    print_json(stats)
    show(f"{'; '.join(f'{word} {number:,}' for word, number, _ in lengths(stats))}\n")
    table("type|#pending|#oldest", queue_rows(stats))


@command(
    "rlm queue monitor --interval 10 | tee -a queue.log",
    "rlm queue monitor --json | jq -c .arriving_per_minute",
    group=queue,
    params=[duration("--interval", "How often to look.", "2s")],
)
def monitor(config: Path | None, interval: float) -> None:
    """Watch Redis and the queues: what waits, how old, and how it moves. Ctrl-C ends the view.

    Off a terminal a line is printed if it has changed, with --json one document per line. Rates are over the last
    minute at most.
    """
    from rlm.admin.queue import Monitor
    from rlm.ledger.store import Store
    from rlm.terminal.live import View
    from rlm.terminal.pictures import queue_line, queue_picture

    store = Store(settings_of(config))  # it need not answer yet
    look, view = Monitor(store).look, View(sys.stdout, queue_picture, queue_line, as_json=wants_json())
    with stop_signals() as stop, view:
        while not stop.graceful:
            try:
                store.require_schema()
                view.show(look())
            except StoreError as error:
                view.trouble(str(error))
            stop.wait(interval)


@store_command(
    "rlm queue push items.jsonl",
    'echo \'{"id": "1", "wallet_name": "w", "events": ["REBALANCE_NEEDED"]}\' \\',
    "  | rlm queue push",
    group=queue,
    params=[click.Argument(["file"], type=click.File("rb"), default="-", metavar="[FILE|-]")],
)
def push(store: Store, file: BinaryIO) -> None:
    """Push items onto the audit list: JSON lines from FILE, or from stdin.

    Each line that is not empty is pushed as it is; the first line is the oldest item. A line of more than a megabyte,
    and than `queue.max_item_bytes`, is not pushed, and the command exits with 1. An item that makes a dead letter is
    pushed, with a warning that says why. The document of `rlm queue list --json` is taken, too.
    """
    from rlm.admin.queue import longest_item, push_lines, read_lines
    from rlm.core.documents import Pushed

    if file.isatty():
        say("Reading items from the terminal, one JSON object a line; Ctrl-D ends.")
    pushed = Pushed()
    lines = read_lines(file, longest_item(store) + len(b"\r\n"))
    try:
        for warning in push_lines(store, lines, pushed):
            say(f"Warning: {warning}")
    except StoreError:
        say(f"{counted(pushed.pushed, 'item')} had been pushed before this; the next may have been.")
        raise
    pushed.waiting = store.intake.lengths()[1]
    print_json(pushed)
    if pushed.refused:
        say(f"{counted(pushed.refused, 'line')} not pushed: too long (queue.max_item_bytes).")
    letters = f", with {counted(pushed.bad, 'dead letter')} to come" if pushed.bad else ""
    show(f"{counted(pushed.pushed, 'item')} pushed{letters}; {pushed.waiting:,} on the audit list now.")
    show("The next tick of a scheduler takes them; `rlm start --wait` starts a run now, `rlm plan` forecasts it.")
    if pushed.refused:
        raise SystemExit(1)


@store_command("rlm queue clear", "rlm queue clear --yes    # in a script", group=queue, params=[yes_option])
def clear(store: Store, *, yes: bool) -> None:
    """Remove the items that wait on the audit list, for good. Asks first.

    Only that list is cleared: what a run has taken, in staging or in the ledger, and dead letters stay.
    """
    staged, waiting = store.intake.lengths()
    if waiting and not yes:
        name = store.settings.queue.events
        confirm(f"Remove {counted(waiting, 'item')} from {name} for good, and any that arrive meanwhile?")
    cleared = store.intake.clear() if waiting else 0
    print_json({"cleared": cleared, "staged": staged})
    show(f"{counted(cleared, 'item')} removed from the audit list. Ledger, staging and dead letters are untouched.")


@click.group()
def failed() -> None:
    """See dead letters; retry or drop them."""


_ids = click.Argument(["ids"], nargs=-1, metavar="[ID]...")
#: The options that choose dead letters: the fields of a `LetterFilter`.
_letters = [
    several("--type", "TYPE", "Only letters of events of this type."),
    several("--reason", "REASON", f"Only letters with this reason: {', '.join(Reason)}.", of=Reason),
    several("--endpoint", "NAME", "Only letters whose event was last sent to this endpoint."),
    click.Option(["--since"], metavar="DURATION", help="Only letters written this long ago at most."),
    click.Option(["--search"], metavar="TEXT", default="", help="Only letters with this in item or detail."),
]


@store_command(
    "rlm failed list --reason rejected --since 24h --grouped",
    "rlm failed list 100 --json | jq -r '.[].id'",
    name="list",
    group=failed,
    params=[number_argument, *_letters, flag("--grouped", "Count the letters of each kind instead.")],
)
def list_letters(store: Store, number: int, *, grouped: bool, **options: Any) -> None:
    """List the last N dead letters (20), newest first: of all, or of those that match the options.

    An option given several times matches any of its values. --grouped lists the N largest groups of letters with the
    same reason, endpoint and type.
    """
    from rlm.admin.letters import DeadLetter, LetterFilter
    from rlm.admin.letters import grouped as group

    fitting = LetterFilter(**options).find(store)
    if grouped:
        groups = group(fitting)[:number]
        print_json(groups)
        table("#letters|reason|endpoint|type|newest", map(astuple, groups))
        return
    letters, total = list(islice(fitting, number)), store.letters.count()
    print_json([msgspec.Raw(raw) for raw in letters])
    if not letters:
        show(f"There are no dead letters{' that match' if total else ''}.")
        return
    shown = map(DeadLetter.read, letters)
    rows = [[each.id, each.failed_at, each.reason, each.subject or None, each.detail] for each in shown]
    table("id|failed at|reason|event or item|detail", rows)
    more = f"{len(letters):,} of {total:,}. " if total > len(letters) else ""
    show(f"\n{more}`rlm failed show ID` shows one; `retry` and `drop` deal with it.")


@store_command(
    "rlm failed show 3f2a9c51d07e8b46 --json | jq .item",
    name="show",
    group=failed,
    params=[click.Argument(["handle"], metavar="ID")],
)
def show_letter(store: Store, handle: str) -> None:
    """Show one dead letter with its item."""
    from rlm.admin.letters import DeadLetter, find_letters

    raw = find_letters(store, [handle])[handle]
    print_json(msgspec.Raw(raw))
    show(msgspec.json.format(raw, indent=2).decode())
    if (letter := DeadLetter.read(raw)).reason in NOT_EMBEDDABLE:
        show(f"The item as text: {safe_line(letter.item_bytes.decode(errors='backslashreplace'))}")


@store_command(
    "rlm failed retry 3f2a9c51d07e8b46",
    "rlm failed retry --endpoint balance_check_api --since 24h",
    "rlm failed retry --all --yes    # in a script",
    group=failed,
    params=[_ids, *_letters, all_option, yes_option],
)
def retry(store: Store, ids: tuple[str, ...], **options: Any) -> None:
    """Send the events of dead letters again, as if they were new: those named, those that match, or --all.

    A letter is removed and its events made pending in one step, with attempts and runs at zero and without a check for
    duplicates; that of a whole item puts the item back on the audit list. If none is named, the command asks first on a
    terminal. Exits with 1 if any cannot be retried, for example because its type is still not configured.
    """
    _deal(store, ids, "retried", **options)


@store_command(
    "rlm failed drop 3f2a9c51d07e8b46",
    "rlm failed drop --reason not_json",
    "rlm failed drop --all --yes    # in a script",
    name="drop",
    group=failed,
    params=[_ids, *_letters, all_option, yes_option],
)
def drop_letters(store: Store, ids: tuple[str, ...], **options: Any) -> None:
    """Remove dead letters for good: those named, those that match, or --all. Asks first if none is named.

    Their event ids are forgotten, too: the same event seen again is a new one, not a duplicate.
    """
    _deal(store, ids, "dropped", **options)


def _deal(store: Store, ids: Sequence[str], done: str, *, every: bool, yes: bool, **options: Any) -> None:
    """Retry or drop the named letters, or the oldest matching ones, after asking; none if an id is unknown."""
    from rlm.admin.letters import Deal, LetterFilter, deal_with

    chosen, deal = LetterFilter(**options), Deal(done)
    if bool(ids) == (every or bool(chosen)):
        raise click.UsageError("Name dead letters, or choose them by options, or --all; see `rlm failed list`.")
    total = len(ids) or sum(1 for _ in chosen.find(store))
    # A retry loses nothing, so a script need not confirm it.
    if not ids and total and not yes and (deal is Deal.DROP or sys.stdin.isatty()):
        confirm(f"{'Retry' if deal is Deal.RETRY else 'Drop'} {counted(total, 'dead letter')}?")
    dealt = deal_with(store, deal, ids or chosen, total)
    print_json(dealt)
    for each in dealt.refused[:10]:
        say_error(f"dead letter {each.id} is not {done}: {each.reason}")
    succeeded = [*(dealt.retried or ()), *(dealt.dropped or ())]
    show(f"{counted(len(succeeded), 'dead letter')} {done}: {named(succeeded, 10)}")
    if dealt.refused:
        raise SystemExit(1)


@store_command(
    "rlm explain a-1                     # all events of an item",
    "rlm explain a-1:REBALANCE_NEEDED    # one of them",
    params=[click.Argument(["event"], metavar="EVENT")],
)
def explain(store: Store, event: str) -> None:
    """Show where one event is, what it waits for, and each attempt with its endpoint, time and answer.

    EVENT is an event id, ITEM:TYPE, or the id of an item, which stands for all its events. Settled events are known for
    queue.dedupe_seconds. Exits with 3 if EVENT is not known.
    """
    from rlm.admin.explain import explanation

    explained = explanation(store, event)
    print_json(explained)
    for view in explained.events if isinstance(explained, ItemView) else (explained,):
        _describe(view)


def _describe(view: EventView) -> None:
    show(f"{view.sentence}.")
    for condition in view.conditions:
        show(f"{condition.severity}: {condition.sentence}: {condition.remedy}.")
    if view.letter:
        show(f"`rlm failed show {one_line(view.letter, 80)}` shows the letter.")
    if view.attempts:
        show(f"\nThe last {len(view.attempts):,} of {counted(view.calls, 'call')}:")
        table("ended|run|#attempt|endpoint|answer|in words|#took|host", map(astuple, view.attempts))
    if view.endpoints:
        show()
        endpoint_table(view.endpoints)
