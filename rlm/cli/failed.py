"""`rlm failed`: show dead letters; send their events again, or remove them for good."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rlm.cli.common import (
    all_option,
    confirm,
    flag,
    number_argument,
    print_json,
    say_error,
    several,
    show,
    store_command,
    table,
    yes_option,
)
from rlm.core.item import NOT_EMBEDDABLE, Reason
from rlm.core.text import counted, named, safe_line

if TYPE_CHECKING:
    from rlm.ledger.store import Store


@click.group()
def failed() -> None:
    """See dead letters; retry or drop them."""


#: The options that choose dead letters: the fields of a `LetterFilter`.
_filter = [
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
    params=[number_argument, *_filter, flag("--grouped", "Count the letters of each kind instead.")],
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
        table("#letters|reason|endpoint|type|newest", groups)
        return
    letters, total = list(islice(fitting, number)), store.letters.count()
    print_json([msgspec.Raw(raw) for raw in letters])
    if not letters:
        show(f"There are no dead letters{' that match' if total else ''}.")
        return
    table("id|failed at|reason|event=event_id|detail", map(DeadLetter.read, letters))
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
    params=[click.Argument(["ids"], nargs=-1, metavar="[ID]..."), *_filter, all_option, yes_option],
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
    group=failed,
    params=[click.Argument(["ids"], nargs=-1, metavar="[ID]..."), *_filter, all_option, yes_option],
)
def drop(store: Store, ids: tuple[str, ...], **options: Any) -> None:
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
