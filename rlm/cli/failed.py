"""`rlm failed`: look at dead letters, send them into the next run, drop them."""

from __future__ import annotations

import sys
from itertools import islice
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rlm.cli.common import (
    CommandError,
    ExitCode,
    Group,
    config_option,
    confirm,
    dry_run_option,
    examples,
    json_option,
    number_argument,
    store_of,
    yes_option,
)
from rlm.cli.completing import letter_ids
from rlm.cli.printing import fitting_table, print_json, say_error, show, show_words
from rlm.text import counted, cut, one_line, safe_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rlm.letters import Outcome
    from rlm.store import Store

#: Letters that are refused are named, up to so many; the others are only counted.
MOST_REFUSED = 5
#: Characters of a letter's detail in the list.
DETAIL_WIDTH = 60
#: Characters of an item, and of the ids of letters, that are printed for a person.
ITEM_WIDTH = 4000
IDS_WIDTH = 400

all_option = click.option("--all", "every", is_flag=True, help="All of them.")
ids_argument = click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=letter_ids)


@click.group(cls=Group)
def failed() -> None:
    """See dead letters; retry or drop them."""


@failed.command("list", epilog=examples("rlm failed list", "rlm failed list 100 --json | jq -r '.[].id'"))
@number_argument
@config_option
@json_option
def list_letters(config: Path | None, number: int, as_json: bool) -> None:
    """List the last N dead letters (20), newest first."""
    from rlm.archive import Archive, Kind  # noqa: PLC0415  # a command loads what it needs when it runs

    with store_of(config) as store:
        letters = list(islice(store.letters.all(), number))
        total = store.letters.count()
        older = Archive(store.settings.archive_dir).hint(Kind.FAILED) if len(letters) < number else ""
    if as_json:
        print_json([msgspec.Raw(raw) for raw in letters])
    elif not letters:
        show_words(f"There are no dead letters. `rlm queue stats` shows what waits.{older}")
    else:
        found = [msgspec.json.decode(raw) for raw in letters]
        rows = [
            [letter["id"], str(letter.get("failed_at")), letter["reason"], letter["event_id"] or "-", _detail(letter)]
            for letter in found
        ]
        headings = ["id", "failed at", "reason", "event", "detail"]
        fitting_table(headings, rows, lambda _index: False, spare=["failed at"])
        show()
        more = f"{len(letters):,} of {total:,}. " if total > len(letters) else ""
        then = "`rlm failed show ID` shows one, `retry` sends it into the next run, `drop` removes it for good."
        show_words(f"{more}{then}{older}")


def _detail(letter: dict[str, Any]) -> str:
    return one_line(letter.get("detail", ""), DETAIL_WIDTH)


@failed.command("show", epilog=examples("rlm failed show 3f2a9c51d07e8b46", "rlm failed show 3f2a9c --json | jq .item"))
@click.argument("handle", metavar="ID", shell_complete=letter_ids)
@config_option
@json_option
def show_letter(config: Path | None, handle: str, as_json: bool) -> None:
    """Show one dead letter with its item."""
    from rlm.letters import is_text, item_text  # noqa: PLC0415  # a command loads what it needs when it runs

    with store_of(config) as store:
        raw = _found(store, [handle])[handle]
    if as_json:
        print_json(msgspec.Raw(raw))
        return
    letter = msgspec.json.decode(raw)
    for name, value in letter.items():
        if name != "item":
            show(cut(safe_line(f"{name}: {'-' if value is None else value}"), ITEM_WIDTH))
    text = item_text(raw)
    if not is_text(raw):  # the line breaks are its own, not those of JSON laid out
        text = safe_line(text)
    show(f"item: {text[:ITEM_WIDTH]}")
    if len(text) > ITEM_WIDTH:
        show_words(f"... and {len(text) - ITEM_WIDTH:,} more characters, which --json has")


@failed.command(
    epilog=examples(
        "rlm failed retry 3f2a9c51d07e8b46",
        "rlm failed retry --all --dry-run",
        "rlm failed retry --all --yes    # in a script",
    )
)
@ids_argument
@all_option
@yes_option
@dry_run_option
@config_option
@json_option
def retry(config: Path | None, ids: tuple[str, ...], *, every: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Send the events of dead letters into the next run, as if they were new. --all asks first, on a terminal.

    A letter is removed and its event made pending in one step, attempts and runs at zero; no duplicate is looked for. A
    letter without an event puts its item back on the audit list. Exits with 1 if any cannot be retried.
    """
    from rlm.letters import retry_letter  # noqa: PLC0415  # a command loads what it needs when it runs

    _check_choice(ids, every=every)
    with store_of(config) as store:
        total = _count(store, ids) if dry_run or every else 0
        if dry_run:
            _tell_of(total, "retried", as_json=as_json)
            return
        # Nothing is lost by it, so a script is not held up.
        if total and not yes and sys.stdin.isatty():
            confirm(f"Retry {counted(total, 'dead letter')}?", "retried")
        outcomes = list(_deal(store, ids, total, retry_letter))
    _tell(outcomes, "retried", as_json=as_json)
    if not as_json and any(not one.refused for one in outcomes):
        show_words("They go out with the next run; `rlm start` starts one now.")
    _exit(outcomes)


@failed.command(
    epilog=examples(
        "rlm failed drop 3f2a9c51d07e8b46",
        "rlm failed drop --all --dry-run",
        "rlm failed drop --all --yes    # in a script",
    )
)
@ids_argument
@all_option
@yes_option
@dry_run_option
@config_option
@json_option
def drop(config: Path | None, ids: tuple[str, ...], *, every: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Remove dead letters for good. --all asks first.

    Their event ids are forgotten, too: the same event seen again is a new one, no duplicate.
    """
    from rlm.letters import drop_letter  # noqa: PLC0415  # a command loads what it needs when it runs

    _check_choice(ids, every=every)
    with store_of(config) as store:
        total = _count(store, ids) if dry_run or every else 0
        if dry_run:
            _tell_of(total, "dropped", as_json=as_json)
            return
        if total and not yes:
            confirm(f"Drop {counted(total, 'dead letter')} for good?", "dropped")
        outcomes = list(_deal(store, ids, total, drop_letter))
    _tell(outcomes, "dropped", as_json=as_json)
    _exit(outcomes)


def _count(store: Store, ids: Sequence[str]) -> int:
    """Count the letters that are named, or all where none is; what else others have put onto the list is none."""
    return len(_found(store, ids)) if ids else sum(1 for _ in store.letters.all())


def _tell_of(total: int, done: str, *, as_json: bool) -> None:
    """Say how many letters it would be."""
    if as_json:
        print_json({done: [], "refused": [], f"would_be_{done}": total})
    else:
        show_words(f"{counted(total, 'dead letter')} would be {done}. Nothing was changed.")


def _check_choice(ids: Sequence[str], *, every: bool) -> None:
    if bool(ids) == every:
        raise click.UsageError("Name dead letters by their ids, or --all of them; `rlm failed list` shows them.")


def _deal(store: Store, ids: Sequence[str], total: int, deal: Callable[[Store, bytes], Outcome]) -> Iterator[Outcome]:
    """Deal with the letters named, or where none is with the `total` that were there; one not known, and none is."""
    from rlm.letters import deal_with_oldest  # noqa: PLC0415  # a command loads what it needs when it runs

    if not ids:
        yield from deal_with_oldest(store, total, deal)
        return
    for raw in _found(store, ids).values():
        yield deal(store, raw)


def _found(store: Store, ids: Sequence[str]) -> dict[str, bytes]:
    """Find letters by their ids, in the order given."""
    from rlm.archive import Archive, Kind  # noqa: PLC0415  # a command loads what it needs when it runs
    from rlm.letters import find_letters  # noqa: PLC0415

    found = find_letters(store, ids)
    if unknown := [handle for handle in dict.fromkeys(ids) if handle not in found]:
        names = ", ".join(map(repr, unknown))
        raise CommandError(
            f"No dead letter {names}; nothing was changed. `rlm failed list` shows those there are."
            + Archive(store.settings.archive_dir).hint(Kind.FAILED),
            ExitCode.NOT_FOUND,
        )
    return {handle: found[handle] for handle in ids}


def _tell(outcomes: Sequence[Outcome], done: str, *, as_json: bool) -> None:
    refused = [one for one in outcomes if one.refused]
    succeeded = [one.id for one in outcomes if not one.refused]
    for one in refused[:MOST_REFUSED]:
        say_error(f"dead letter {one.id} is not {done}: {one.refused}")
    if (more := len(refused) - MOST_REFUSED) > 0:
        say_error(f"{counted(more, 'more dead letter')} {'is' if more == 1 else 'are'} not {done}; --json has them all")
    if as_json:
        print_json({done: succeeded, "refused": [{"id": one.id, "reason": one.refused} for one in refused]})
    elif not outcomes:
        show_words(f"There are no dead letters; nothing was {done}.")
    elif succeeded:
        show_words(f"{counted(len(succeeded), 'dead letter')} {done}: {one_line(', '.join(succeeded), IDS_WIDTH)}")


def _exit(outcomes: Sequence[Outcome]) -> None:
    if any(one.refused for one in outcomes):
        raise SystemExit(int(ExitCode.FAILED))
