"""`rlm failed`: look at dead letters; rlm/cli/failed_retry.py retries and drops them."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rlm.cli.common import Group, examples, show_looked_at, store_of
from rlm.cli.completion import letter_ids
from rlm.cli.failed_retry import drop, found_letters, letter_filter, retry
from rlm.cli.options import config_option, json_option, number_argument
from rlm.cli.printing import is_terminal, print_json, show, show_words, table
from rlm.core.text import LONGEST_TEXT, counted, cut, one_line, safe_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rlm.admin.letters import LetterFilter

#: The most characters of a letter's detail in the list on a terminal; `rlm failed show` has all of it.
DETAIL_WIDTH = 60
#: The most characters of an item that are printed as text.
ITEM_WIDTH = 4000
#: The most letters that are shown at once.
MOST_SHOWN = 20


@click.group(cls=Group)
def failed() -> None:
    """See dead letters; retry or drop them."""


failed.add_command(retry)
failed.add_command(drop)


@failed.command(
    "list",
    epilog=examples(
        "rlm failed list",
        "rlm failed list --reason rejected --since 24h --grouped",
        "rlm failed list --search wallet_001",
        "rlm failed list 100 --json | jq -r '.[].id'",
    ),
)
@number_argument
@letter_filter
@click.option("--grouped", is_flag=True, help="How many there are of each kind instead.")
@config_option
@json_option
def list_letters(config: Path | None, number: int, chosen: LetterFilter, *, grouped: bool, as_json: bool) -> None:
    """List the last N dead letters (20), newest first; of those that fit what is asked for, if anything is.

    An option said several times means any of what it said. --grouped puts alike ones together: the same reason, answer,
    endpoint and type; the N largest groups.
    """
    from rlm.admin.letters import grouped as group
    from rlm.ledger.archive import Archive, ArchiveKind

    with store_of(config) as store:
        fitting = filter(chosen.fits, store.letters.all())
        groups = group(fitting) if grouped else []
        letters = [] if grouped else list(islice(fitting, number))
        total = store.letters.count()
        few = total < number or (len(letters) < number and not grouped)
        older = Archive(store.settings.archive_dir).hint(ArchiveKind.FAILED) if few else ""
    if as_json:
        print_json(groups[:number] if grouped else [msgspec.Raw(raw) for raw in letters])
    elif not letters and not groups:
        fit = " that fit" if chosen and total else ""
        show_words(f"There are no dead letters{fit}. `rlm queue stats` shows what waits.{older}")
        show_looked_at(store)
    elif grouped:
        _show_groups(groups, number)
    else:
        _show_list([msgspec.json.decode(raw) for raw in letters])
        show()
        more = f"{len(letters):,} of {total:,}. " if total > len(letters) else ""
        then = "`rlm failed show ID` shows one, `retry` sends it into the next run, `drop` removes it for good."
        show_words(f"{more}{then}{older}")


def _show_list(found: Sequence[dict[str, Any]]) -> None:
    rows = [
        [letter["id"], str(letter.get("failed_at")), letter["reason"], letter["event_id"] or "-", _detail(letter)]
        for letter in found
    ]
    headings = ["id", "failed at", "reason", "event", "detail"]
    table(headings, rows, lambda _index: False, spare=["failed at"])


def _show_groups(groups: Sequence[dict[str, Any]], number: int) -> None:
    names = ["reason", "answer", "endpoint", "type", "newest"]
    rows = [
        [f"{one['letters']:,}", *("-" if one[name] is None else str(one[name]) for name in names)] for one in groups
    ]
    table(["letters", *names], rows[:number], lambda index: index == 0, spare=["newest"])
    show()
    more = f"{number:,} of {counted(len(groups), 'group')}. " if len(groups) > number else ""
    show_words(
        f"{more}`rlm failed list` with --reason, --endpoint and --type lists those of one, `retry` sends them again."
    )


def _detail(letter: dict[str, Any]) -> str:
    return one_line(letter.get("detail", ""), DETAIL_WIDTH if is_terminal() else LONGEST_TEXT)


@failed.command(
    "show",
    epilog=examples(
        "rlm failed show 3f2a9c51d07e8b46",
        "rlm failed show 3f2a9c51d07e8b46 --json | jq .item",
        "rlm failed show --search wallet_001 --since 1h",
    ),
)
@click.argument("handle", metavar="[ID]", required=False, shell_complete=letter_ids)
@letter_filter
@config_option
@json_option
def show_letter(config: Path | None, handle: str | None, chosen: LetterFilter, as_json: bool) -> None:
    """Show one dead letter with its item; or the newest 20 of those that fit what is asked for."""
    if (handle is None) != bool(chosen):
        raise click.UsageError("Name a dead letter by its id, or say which with options; `rlm failed list` shows them.")
    with store_of(config) as store:
        if handle is None:
            found = list(islice(filter(chosen.fits, store.letters.all()), MOST_SHOWN))
        else:
            found = [found_letters(store, [handle])[handle]]
    if as_json:
        print_json([msgspec.Raw(raw) for raw in found] if handle is None else msgspec.Raw(found[0]))
        return
    for index, raw in enumerate(found):
        if index:
            show()
        _show_letter(raw)
    if not found:
        show_words("There are no dead letters that fit.")


def _show_letter(raw: bytes) -> None:
    from rlm.admin.letters import item_text

    letter = msgspec.json.decode(raw)
    for name, value in letter.items():
        if name != "item":
            show(cut(safe_line(f"{name}: {'-' if value is None else value}"), ITEM_WIDTH))
    text = item_text(raw)
    show(f"item: {text[:ITEM_WIDTH]}")
    if len(text) > ITEM_WIDTH:
        show_words(f"... and {len(text) - ITEM_WIDTH:,} more characters, which --json has")
