"""`rlm failed retry` and `drop`: send dead letters into the next run, or remove them for good."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from rlm.admin.letters import LetterFilter
from rlm.cli.common import CommandError, ExitCode, confirm, examples, store_of
from rlm.cli.completion import endpoint_names, letter_ids, type_names
from rlm.cli.options import Duration, config_option, dry_run_option, gathered, json_option, yes_option
from rlm.cli.printing import print_json, say, say_error, show_words
from rlm.core.clock import system_clock
from rlm.core.event import Reason
from rlm.core.text import counted, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from rlm.admin.letters import Outcome
    from rlm.ledger import Store

#: The most refused letters that are named; the others are only counted.
MOST_REFUSED = 5
#: The most characters of ids of letters that are printed.
IDS_WIDTH = 400


def _filter(
    types: Sequence[str], reasons: Sequence[str], endpoints: Sequence[str], since: float | None, text: str
) -> LetterFilter:
    since_time = since and system_clock.now() - since
    return LetterFilter(frozenset(types), frozenset(reasons), frozenset(endpoints), since_time, text)


#: Adds the options that choose dead letters; the command gets their filter as `chosen`.
letter_filter = gathered(
    "chosen",
    _filter,
    click.option(
        "--type",
        "types",
        metavar="TYPE",
        multiple=True,
        shell_complete=type_names,
        help="Those of events of this type.",
    ),
    click.option(
        "--reason",
        "reasons",
        metavar="REASON",
        multiple=True,
        type=click.Choice([one.value for one in Reason]),
        help=f"Those with this reason: {', '.join(Reason)}.",
    ),
    click.option(
        "--endpoint",
        "endpoints",
        metavar="NAME",
        multiple=True,
        shell_complete=endpoint_names,
        help="Those whose event this endpoint was called for last.",
    ),
    click.option("--since", type=Duration(), metavar="DURATION", help="Those of so long ago at the most."),
    click.option(
        "--search", "text", metavar="TEXT", default="", help="Those with this in item, wallet, event or detail."
    ),
)


@dataclass(frozen=True, slots=True)
class Dealing:
    """The flags of retry and drop: all letters, without asking, only counted, printed as JSON."""

    every: bool
    yes: bool
    dry_run: bool
    as_json: bool


#: Adds the flags of retry and drop; the command gets them as `how`.
deal_options = gathered(
    "how",
    Dealing,
    click.option("--all", "every", is_flag=True, help="All of them."),
    yes_option,
    dry_run_option,
    config_option,
    json_option,
)


def found_letters(store: Store, ids: Sequence[str]) -> dict[str, bytes]:
    """Return the letters with these ids, in the order given.

    Raises:
        CommandError: an id is unknown.
    """
    from rlm.admin.letters import find_letters
    from rlm.ledger.archive import Archive, ArchiveKind

    found = find_letters(store, ids)
    if unknown := [handle for handle in dict.fromkeys(ids) if handle not in found]:
        names = ", ".join(map(repr, unknown))
        raise CommandError(
            f"No dead letter {names}; nothing was changed. `rlm failed list` shows those there are."
            + Archive(store.settings.archive_dir).hint(ArchiveKind.FAILED),
            ExitCode.NOT_FOUND,
        )
    return {handle: found[handle] for handle in ids}


ids_argument = click.argument("ids", nargs=-1, metavar="[ID]...", shell_complete=letter_ids)


@click.command(
    epilog=examples(
        "rlm failed retry 3f2a9c51d07e8b46",
        "rlm failed retry --endpoint balance_check_api --since 24h",
        "rlm failed retry --all --dry-run",
        "rlm failed retry --all --yes    # in a script",
    )
)
@ids_argument
@letter_filter
@deal_options
def retry(config: Path | None, ids: tuple[str, ...], chosen: LetterFilter, how: Dealing) -> None:
    """Send the events of dead letters into the next run, as if they were new: those named, those that fit, or --all.

    A letter is removed and its event made pending in one step, attempts and runs at zero; no duplicate is looked for. A
    letter without an event puts its item back on the audit list. Where none is named it asks first, on a terminal, and
    leaves those that would only become dead letters again: no JSON, say, or too large. Exits with 1 if any cannot be
    retried, as one whose type is still not configured.
    """
    from rlm.admin.letters import count_unsendable, retry_letter, retry_unless_hopeless

    _check_choice(ids, chosen, how)
    with store_of(config) as store:
        total = 0 if ids and not how.dry_run else _count(store, ids, chosen)
        left = 0 if ids else count_unsendable(store, filter(chosen.fits, store.letters.all()))
        if how.dry_run:
            _tell_of(total - left, "retried", left, as_json=how.as_json)
            return
        # A retry loses nothing, so a script need not confirm it.
        if total > left and not how.yes and sys.stdin.isatty():
            confirm(f"Retry {counted(total - left, 'dead letter')}?", "retried")
        outcomes = list(_deal(store, ids, total, retry_letter if ids else retry_unless_hopeless, chosen))
    _tell(outcomes, "retried", as_json=how.as_json)


@click.command(
    epilog=examples(
        "rlm failed drop 3f2a9c51d07e8b46",
        "rlm failed drop --reason not_json --dry-run",
        "rlm failed drop --all --yes    # in a script",
    )
)
@ids_argument
@letter_filter
@deal_options
def drop(config: Path | None, ids: tuple[str, ...], chosen: LetterFilter, how: Dealing) -> None:
    """Remove dead letters for good: those named, those that fit, or --all. Asks first where none is named.

    Their event ids are forgotten, too: the same event seen again is a new one, no duplicate.
    """
    from rlm.admin.letters import drop_letter

    _check_choice(ids, chosen, how)
    with store_of(config) as store:
        total = 0 if ids and not how.dry_run else _count(store, ids, chosen)
        if how.dry_run:
            _tell_of(total, "dropped", as_json=how.as_json)
            return
        if total and not how.yes:
            confirm(f"Drop {counted(total, 'dead letter')} for good?", "dropped")
        outcomes = list(_deal(store, ids, total, drop_letter, chosen))
    _tell(outcomes, "dropped", as_json=how.as_json)


def _count(store: Store, ids: Sequence[str], chosen: LetterFilter) -> int:
    """Count the letters that are named, or that fit; foreign entries of the list do not count."""
    return len(found_letters(store, ids)) if ids else sum(map(chosen.fits, store.letters.all()))


def _tell_of(total: int, done: str, left: int = 0, *, as_json: bool) -> None:
    if as_json:
        of_retry = {"left": [], "would_be_left": left} if done == "retried" else {}
        print_json({done: [], "refused": [], f"would_be_{done}": total, **of_retry})
    else:
        show_words(f"{counted(total, 'dead letter')} would be {done}. Nothing was changed.")
        if left:
            show_words(f"{left:,} more would be left: a retry cannot succeed.")


def _check_choice(ids: Sequence[str], chosen: LetterFilter, how: Dealing) -> None:
    if bool(ids) == (how.every or bool(chosen)):
        raise click.UsageError(
            "Name dead letters by their ids, or say which with options, or --all; `rlm failed list` shows them."
        )


def _deal(
    store: Store, ids: Sequence[str], total: int, deal: Callable[[Store, bytes], Outcome], chosen: LetterFilter
) -> Iterator[Outcome]:
    """Retry or drop the letters named, or the oldest `total` that fit; none if an id is unknown."""
    from rlm.admin.letters import deal_with_oldest

    if not ids:
        yield from deal_with_oldest(store, total, deal, chosen.fits)
        return
    for raw in found_letters(store, ids).values():
        yield deal(store, raw)


def _tell(outcomes: Sequence[Outcome], done: str, *, as_json: bool) -> None:
    """Print what was done; end the command with an error if a letter was refused."""
    left = [one for one in outcomes if one.left]
    refused = [one for one in outcomes if one.refused and not one.left]
    succeeded = [one.id for one in outcomes if not one.refused]
    for one in refused[:MOST_REFUSED]:
        say_error(f"dead letter {one.id} is not {done}: {one.refused}")
    if (more := len(refused) - MOST_REFUSED) > 0:
        say_error(f"{counted(more, 'more dead letter')} {'is' if more == 1 else 'are'} not {done}; --json has them all")
    if left:
        them = "it" if len(left) == 1 else "them"
        why = one_line(f"{left[0].id}: {left[0].refused}", IDS_WIDTH)
        say(f"Warning: {counted(len(left), 'dead letter')} left, for a retry of {them} cannot succeed ({why}).")
    if as_json:
        told = {"refused": refused, **({"left": left} if done == "retried" else {})}
        entries = {name: [{"id": one.id, "reason": one.refused} for one in each] for name, each in told.items()}
        print_json({done: succeeded, **entries})
    elif not outcomes:
        show_words(f"There are no dead letters to deal with; nothing was {done}.")
    elif succeeded:
        show_words(f"{counted(len(succeeded), 'dead letter')} {done}: {one_line(', '.join(succeeded), IDS_WIDTH)}")
        if done == "retried":
            show_words("They go out with the next run; `rlm start` starts one now.")
    if refused:
        raise SystemExit(int(ExitCode.FAILED))
