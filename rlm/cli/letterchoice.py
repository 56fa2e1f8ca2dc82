"""The options that say which dead letters a command is about."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from rlm.admin.letterfilter import LetterFilter
from rlm.cli.common import CommandError, ExitCode, config_option, dry_run_option, json_option, yes_option
from rlm.cli.completing import endpoint_names, type_names
from rlm.cli.durations import Duration
from rlm.core.clock import system_clock
from rlm.core.event import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rlm.ledger import Store

_Command = TypeVar("_Command", bound="Callable[..., Any]")

_OPTIONS = [
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
]


def letter_filter(command: _Command) -> _Command:
    """Give a command the options, and what they say as `chosen`."""

    @functools.wraps(command)
    def filtered(*args: Any, **options: Any) -> Any:
        types, reasons, endpoints = (frozenset(options.pop(name)) for name in ("types", "reasons", "endpoints"))
        since, text = options.pop("since"), options.pop("text")
        chosen = LetterFilter(types, reasons, endpoints, since and system_clock.now() - since, text)
        return command(*args, chosen=chosen, **options)

    for option in reversed(_OPTIONS):
        filtered = option(filtered)
    return filtered  # type: ignore[return-value]  # what click makes of a command takes the options


@dataclass(frozen=True, slots=True)
class Dealing:
    """How letters are dealt with: every one, without asking, only counted; printed as JSON."""

    every: bool
    yes: bool
    dry_run: bool
    as_json: bool


def deal_options(command: _Command) -> _Command:
    """Give a command that deals with letters its options, and what they say as `how`."""

    @functools.wraps(command)
    def dealt(*args: Any, **options: Any) -> Any:
        how = Dealing(*(options.pop(name) for name in ("every", "yes", "dry_run", "as_json")))
        return command(*args, how=how, **options)

    every = click.option("--all", "every", is_flag=True, help="All of them.")
    for option in reversed([every, yes_option, dry_run_option, config_option, json_option]):
        dealt = option(dealt)
    return dealt  # type: ignore[return-value]  # what click makes of a command takes the options


def found_letters(store: Store, ids: Sequence[str]) -> dict[str, bytes]:
    """Find letters by their ids, in the order given."""
    from rlm.admin.letters import find_letters  # noqa: PLC0415
    from rlm.ledger.archive import Archive, ArchiveKind  # noqa: PLC0415  # a command loads what it needs when it runs

    found = find_letters(store, ids)
    if unknown := [handle for handle in dict.fromkeys(ids) if handle not in found]:
        names = ", ".join(map(repr, unknown))
        raise CommandError(
            f"No dead letter {names}; nothing was changed. `rlm failed list` shows those there are."
            + Archive(store.settings.archive_dir).hint(ArchiveKind.FAILED),
            ExitCode.NOT_FOUND,
        )
    return {handle: found[handle] for handle in ids}
