"""Single events: `rlm explain` shows where one is, `rlm queue list` those that wait, `rlm queue drop` drops some."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import CommandError, command, confirm, store_of, tell_unknown
from rlm.cli.options import Duration, all_of, deal_flags, several
from rlm.cli.printing import is_terminal, print_json, short_time, show, show_words, table, wants_json
from rlm.core.documents import EventView, ItemView, WaitingList
from rlm.core.text import counted, one_line, span
from rlm.core.trail import Place

if TYPE_CHECKING:
    from rlm.ledger.reading.waiting import EventFilter


#: How many events a page shows.
SHOWN = 20
#: Most characters of an answer in the list.
ANSWER_WIDTH = 80
_STATES = (Place.PENDING, Place.LEFTOVER, Place.BACKING_OFF, Place.SPENT, Place.QUEUED)
_AFTER_IT = "Wait for its end, or `rlm cancel` it; then drop what it left over."


def _filter(item: str, **options: Any) -> EventFilter:
    from rlm.ledger.reading.waiting import EventFilter

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
        help=("Only events that have waited this long."),
    ),
)


@command(
    "rlm queue list",
    "rlm queue list --wallet wallet_001",
    "rlm queue list 100 --state leftover --type REBALANCE_NEEDED --older-than 10m",
    "rlm queue list 1000 --json | jq -r '.events[].event_id'",
    name="list",
)
@click.argument("number", metavar="[N]", type=click.IntRange(1, 1_000_000_000), required=False)
@event_filter
@several("--state", "states", "STATE", f"Only events that are {', '.join(_STATES[:-1])} or {_STATES[-1]}.", of=_STATES)
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
    from rlm.ledger.reading.waiting import MOST_LOOKED

    chosen, every = _filter(**options), number is None and wants_json()
    with store_of(config) as store:
        page = list_waiting(store, chosen, MOST_LOOKED if every else number or SHOWN, after)
        while every and page.next is not None:
            more = list_waiting(store, chosen, MOST_LOOKED, page.next)
            page = WaitingList(events=(*page.events, *more.events), next=more.next)
    print_json(page)
    _list(page)
    if not page.events and page.next is None:
        tell_unknown(store, chosen.types)


def _list(page: WaitingList) -> None:
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
    elif page.next is None:
        show_words(
            "No such event is waiting. `rlm queue stats` shows what is where, `rlm explain EVENT` explains one event."
        )
        return
    if page.next is not None:
        show()
        show_words(f"More: `rlm queue list --after {page.next}` with the same options.")


@command(
    "rlm queue drop --wallet wallet_001 --dry-run",
    "rlm queue drop --type REBALANCE_NEEDED --older-than 24h",
    "rlm queue drop --all --yes    # in a script",
)
@event_filter
@deal_flags
def drop(config: Path | None, *, every: bool, yes: bool, dry_run: bool, **options: Any) -> None:
    """Remove leftovers of the last run for good: those that match the options, or --all. Asks first.

    Their ids are forgotten, too: the same event seen again is a new one, not a duplicate. While a run is open, nothing
    is left over and nothing is dropped; what that run does not send will be left over.
    """
    from rlm.admin.queue import count_leftovers, drop_leftovers
    from rlm.ledger.reading.waiting import EventFilter

    wanted = _filter(**options)
    if every == (wanted != EventFilter()):
        raise click.UsageError("Choose leftovers with options, or --all; `rlm queue list` shows them.")
    with store_of(config) as store:
        if (run := store.runs.current()) is not None:
            raise CommandError(f"Run {run.id} is open, so nothing is left over. {_AFTER_IT}")
        total = count_leftovers(store, wanted)
        if not total:
            tell_unknown(store, wanted.types)
        if dry_run:
            print_json({"dropped": 0, "would_be_dropped": total})
            show_words(f"{counted(total, 'leftover event')} would be dropped. Nothing was changed.")
            return
        if total and not yes:
            confirm(f"Drop {counted(total, 'leftover event')} for good?", "dropped")
        done = drop_leftovers(store, wanted, total)
    print_json({"dropped": done.number})
    if done.is_open:
        before = f"{counted(done.number, 'event')} dropped before that. " if done.number else ""
        raise CommandError(f"A run was opened meanwhile and took the others. {before}{_AFTER_IT}")
    if done.number:
        show_words(f"{counted(done.number, 'leftover event')} dropped and forgotten: if pushed again, they are new.")
    else:
        show_words("Nothing to drop: no such event is left over. `rlm queue list` shows what waits.")


@command(
    "rlm explain a-1                     # all events of an item",
    "rlm explain a-1:REBALANCE_NEEDED    # one of them",
)
@click.argument("event", metavar="EVENT")
def explain(config: Path | None, event: str) -> None:
    """Show where one event is, what it waits for, and each attempt with its endpoint, time and answer.

    EVENT is an event id, ITEM:TYPE, or the id of an item, which stands for all its events. Settled events are known for
    queue.dedupe_seconds. On the audit list the 100,000 oldest items are looked at. Exits with 3 if EVENT is not known.
    """
    from rlm.admin.explain import explanation

    with store_of(config) as store:
        found = explanation(store, event)
    print_json(found)
    for index, view in enumerate(found.events if isinstance(found, ItemView) else (found,)):
        if index:
            show()
        _describe(view)


def _describe(view: EventView) -> None:
    show_words(f"{view.sentence}.")
    for condition in view.conditions:
        show_words(f"{condition.severity}: {condition.sentence}: {condition.remedy}.")
    if view.letter:
        show_words(f"`rlm failed show {one_line(view.letter.id, ANSWER_WIDTH)}` shows the letter.")
    if view.attempts:
        show()
        if view.calls > len(view.attempts):
            show_words(f"The newest {len(view.attempts):,} of {counted(view.calls, 'call')}:")
        rows = [
            [
                call.attempt,
                short_time(call.at) if is_terminal() else call.at,
                call.endpoint or "-",
                call.answer,
                "-" if call.seconds is None else f"{call.seconds:.2f} s",
                one_line(call.text, ANSWER_WIDTH),
                call.host or "-",
            ]
            for call in view.attempts
        ]
        headings = ["attempt", "ended", "endpoint", "answer", "took", "in words", "host"]
        table(headings, rows, right=["attempt", "took"])
    if view.endpoints:
        show()
        gates = [
            [
                gate.endpoint,
                f"{gate.health} ({gate.reason})" if gate.reason else gate.health,
                f"{gate.free:,}",
                "until resumed" if gate.wait_seconds is None else span(gate.wait_seconds),
            ]
            for gate in view.endpoints
        ]
        table(["endpoint", "health", "free slots", "next in"], gates, right=["free slots", "next in"])
