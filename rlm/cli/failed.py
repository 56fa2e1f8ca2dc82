"""`rlm failed`: show dead letters; send their events again, or remove them for good."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rlm.cli.common import ExitCode, command, confirm, store_of, tell_unknown
from rlm.cli.options import Since, all_of, all_option, number_argument, several, yes_option
from rlm.cli.printing import is_terminal, print_json, say_error, show, table
from rlm.core.item import NOT_EMBEDDABLE, Reason
from rlm.core.text import LONGEST_TEXT, counted, cut, named, one_line, safe_line

if TYPE_CHECKING:
    from rlm.core.documents import LetterGroup

#: Most characters of a letter's detail in the list on a terminal, and of an item to print as text.
DETAIL_WIDTH, ITEM_WIDTH = 60, 4000
#: Most letters to name; the others are only counted.
MOST_NAMED = 10


@click.group()
def failed() -> None:
    """See dead letters; retry or drop them."""


#: The options that choose dead letters: the fields of a `LetterFilter`.
letter_filter = all_of(
    several("--type", "types", "TYPE", "Only letters of events of this type."),
    several("--reason", "reasons", "REASON", f"Only letters with this reason: {', '.join(Reason)}.", of=Reason),
    several("--endpoint", "endpoints", "NAME", "Only letters whose event was last sent to this endpoint."),
    click.option("--since", type=Since(), metavar="DURATION", help="Only letters written this long ago at most."),
    click.option(
        "--search",
        "text",
        metavar="TEXT",
        default="",
        help="Only letters with this text in item, wallet, event or detail.",
    ),
)


@command(
    "rlm failed list",
    "rlm failed list --reason rejected --since 24h --grouped",
    "rlm failed list --search wallet_001",
    "rlm failed list 100 --json | jq -r '.[].id'",
    name="list",
    group=failed,
)
@number_argument
@letter_filter
@click.option("--grouped", is_flag=True, help="Count the letters of each kind instead.")
def list_letters(config: Path | None, number: int, *, grouped: bool, **options: Any) -> None:
    """List the last N dead letters (20), newest first: of all, or of those that match the options.

    An option given several times matches any of its values. --grouped lists the N largest groups of letters with the
    same reason, endpoint and type.
    """
    from rlm.admin.letters import LetterFilter
    from rlm.admin.letters import grouped as group
    from rlm.ledger.letters import archive_hint

    chosen = LetterFilter(**options)
    with store_of(config) as store:
        fitting = chosen.find(store)
        groups = group(fitting)[:number] if grouped else []
        letters = [] if grouped else list(islice(fitting, number))
        total = store.letters.count()
        older = archive_hint(store.settings.archive_dir) if total < number else ""
        if not letters and not groups:
            tell_unknown(store, chosen.types, chosen.endpoints)
    print_json(groups if grouped else [msgspec.Raw(raw) for raw in letters])
    if not letters and not groups:
        show(f"There are no dead letters{' that match' if chosen and total else ''}.{older}")
    elif grouped:
        _show_groups(groups)
    else:
        width = DETAIL_WIDTH if is_terminal() else LONGEST_TEXT
        rows = [
            [raw["id"], raw.get("failed_at"), raw["reason"], raw["event_id"], one_line(raw.get("detail", ""), width)]
            for raw in map(msgspec.json.decode, letters)
        ]
        table(["id", "failed at", "reason", "event", "detail"], rows)
        more = f"{len(letters):,} of {total:,}. " if total > len(letters) else ""
        show(f"\n{more}`rlm failed show ID` shows one, `retry` sends it again, `drop` removes it for good.{older}")


def _show_groups(groups: Sequence[LetterGroup]) -> None:
    names = ["reason", "endpoint", "type", "newest"]
    rows = [[f"{group.letters:,}", *(getattr(group, name) for name in names)] for group in groups]
    table(["letters", *names], rows, right=["letters"])
    then = "lists those of one, `retry` sends them again."
    show(f"\n`rlm failed list` with --reason, --endpoint and --type {then}")


@command(
    "rlm failed show 3f2a9c51d07e8b46", "rlm failed show 3f2a9c51d07e8b46 --json | jq .item", name="show", group=failed
)
@click.argument("handle", metavar="ID")
def show_letter(config: Path | None, handle: str) -> None:
    """Show one dead letter with its item."""
    from rlm.admin.letters import DeadLetter, find_letters

    with store_of(config) as store:
        raw = find_letters(store, [handle])[handle]
    print_json(msgspec.Raw(raw))
    for name, value in msgspec.json.decode(raw).items():
        if name != "item":
            show(cut(safe_line(f"{name}: {'-' if value is None else value}"), ITEM_WIDTH))
    letter = DeadLetter.read(raw)
    if letter.reason in NOT_EMBEDDABLE:  # its line breaks are content, not layout
        text = safe_line(letter.item_bytes.decode(errors="backslashreplace"))
    else:
        text = msgspec.json.format(bytes(letter.item), indent=2).decode()
    show(f"item: {text[:ITEM_WIDTH]}")
    if len(text) > ITEM_WIDTH:
        show(f"... and {len(text) - ITEM_WIDTH:,} more characters, which --json prints")


#: The arguments of retry and drop.
dealt_with = all_of(click.argument("ids", nargs=-1, metavar="[ID]..."), letter_filter, all_option, yes_option)


@command(
    "rlm failed retry 3f2a9c51d07e8b46",
    "rlm failed retry --endpoint balance_check_api --since 24h",
    "rlm failed retry --all --yes    # in a script",
    group=failed,
)
@dealt_with
def retry(config: Path | None, ids: tuple[str, ...], **options: Any) -> None:
    """Send the events of dead letters again, as if they were new: those named, those that match, or --all.

    A letter is removed and its events made pending in one step, with attempts and runs at zero and without a check for
    duplicates; a letter of several types stays for those that are still not configured. The letter of a whole item puts
    the item back on the audit list. If none is named, the command asks first on a terminal. Exits with 1 if any cannot
    be retried, for example because its type is still not configured.
    """
    _deal(config, ids, "retried", **options)


@command(
    "rlm failed drop 3f2a9c51d07e8b46",
    "rlm failed drop --reason not_json",
    "rlm failed drop --all --yes    # in a script",
    group=failed,
)
@dealt_with
def drop(config: Path | None, ids: tuple[str, ...], **options: Any) -> None:
    """Remove dead letters for good: those named, those that match, or --all. Asks first if none is named.

    Their event ids are forgotten, too: the same event seen again is a new one, not a duplicate.
    """
    _deal(config, ids, "dropped", **options)


def _deal(config: Path | None, ids: Sequence[str], done: str, *, every: bool, yes: bool, **options: Any) -> None:
    """Retry or drop the named letters, or the oldest matching ones, after asking; none if an id is unknown."""
    from rlm.admin.letters import Deal, LetterFilter, deal_with

    chosen, deal = LetterFilter(**options), Deal(done)
    if bool(ids) == (every or bool(chosen)):
        listed = "`rlm failed list` shows them"
        raise click.UsageError(f"Name dead letters by their ids, or choose them with options, or --all; {listed}.")
    with store_of(config) as store:
        total = len(ids) or sum(1 for _ in chosen.find(store))
        if not total:
            tell_unknown(store, chosen.types, chosen.endpoints)
        # A retry loses nothing, so a script need not confirm it.
        if not ids and total and not yes and (deal is Deal.DROP or sys.stdin.isatty()):
            letters = counted(total, "dead letter")
            confirm(f"Retry {letters}?" if deal is Deal.RETRY else f"Drop {letters} for good?", deal)
        dealt = deal_with(store, deal, ids or chosen, total)
    print_json(dealt)
    for each in dealt.refused[:MOST_NAMED]:
        say_error(f"dead letter {each.id} is not {done}: {each.reason}")
    succeeded = [*(dealt.retried or ()), *(dealt.dropped or ())]
    show(f"{counted(len(succeeded), 'dead letter')} {done}: {named(succeeded, MOST_NAMED)}")
    if succeeded and deal is Deal.RETRY:
        show("They go out with the open run, or the next one; `rlm start` starts one now.")
    if dealt.refused:
        raise SystemExit(int(ExitCode.FAILED))
