"""`rlm endpoint pause`, `resume` and `limit`: change one or several endpoints or budgets on the live system."""

from __future__ import annotations

import os
import pwd
import socket
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import CommandError, ExitCode, config_option, examples, json_option, store_of
from rlm.cli.completing import limited_names, type_names
from rlm.cli.durations import Duration
from rlm.cli.printing import print_json, say, show_words
from rlm.core.errors import StoreError
from rlm.core.text import counted, span
from rlm.core.window import Circuit, shut_by

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from pathlib import Path

    from rlm.core.endpoint import Limited
    from rlm.ledger import Store

#: The longest pause that ends by itself, seconds.
LONGEST_PAUSE_SECONDS = 366 * 86_400.0

_LONGEST_WHO = 200

_names_argument = click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=limited_names)
_type_option = click.option(
    "--type", "type_name", metavar="TYPE", shell_complete=type_names, help="All endpoints of this type."
)


@click.command(
    epilog=examples(
        "rlm endpoint pause rebalance_api",
        "rlm endpoint pause rebalance_api balance_api --for 10m",
        "rlm endpoint pause 'overflow_*'    # quoted, or the shell takes the pattern for one of file names",
    )
)
@_names_argument
@_type_option
@click.option(
    "--for",
    "seconds",
    type=Duration(longest=LONGEST_PAUSE_SECONDS),
    metavar="DURATION",
    help="How long; else until resumed.",
)
@config_option
@json_option
def pause(
    config: Path | None, names: tuple[str, ...], type_name: str | None, seconds: float | None, as_json: bool
) -> None:
    """Send no new call to endpoints, or to any of a budget.

    NAME is that of an endpoint or a budget, or a pattern of endpoints (`*`, `?`). The others take their share. It holds
    at once, in a run under way as well; calls under way are not cut. Said again, the last word counts.
    """
    by = who()

    def change(store: Store, one: Limited) -> dict[str, Any]:
        store.control.pause(one, by, seconds)
        return {"name": one.name, "paused_seconds": seconds, "by": by}

    changed = _change(config, names, type_name, change)
    if as_json:
        _print_json(changed, names)
        return
    are, them = ("is", "it") if len(changed) == 1 else ("are", "them")
    paused = [one["name"] for one in changed]
    until = f"`rlm endpoint resume {' '.join(paused)}`"
    if seconds is not None:
        until = f"{span(seconds)} have passed, or `rlm endpoint resume`"
    show_words(f"{', '.join(paused)} {are} paused until {until}.")
    show_words(f"Calls under way are not cut; no new one is sent to {them}.")


@click.command(epilog=examples("rlm endpoint resume rebalance_api", "rlm endpoint resume --type REBALANCE_NEEDED"))
@_names_argument
@_type_option
@config_option
@json_option
def resume(config: Path | None, names: tuple[str, ...], type_name: str | None, as_json: bool) -> None:
    """End a pause, and a rest for what endpoints answered.

    NAME is that of an endpoint or a budget, or a pattern of endpoints (`*`, `?`). Where one was throttled or failing,
    its next call is its probe then. A rest because its window cannot be trusted stands: what was sent is not known, so
    a limit might be exceeded.
    """

    def change(store: Store, one: Limited) -> dict[str, Any]:
        resumed = store.control.resume(one, who())
        view = store.windows.look([one])[1][one.name]
        return {
            "name": one.name,
            "paused": resumed.paused,
            "rested": resumed.rested,
            "probing": shut_by(view) is Circuit.PROBING,
            "held_seconds": round(view.held_seconds, 3),
        }

    changed = _change(config, names, type_name, change)
    if as_json:
        _print_json(changed, names)
        return
    for told, alike in names_alike(changed, ("paused", "rested", "probing")):
        _tell_resumed(told, alike)
    for one in changed:
        if (held := one["held_seconds"]) > 0:
            show_words(f"{one['name']} is held for another {span(held)}: its window cannot be trusted before.")


def _tell_resumed(names: str, one: dict[str, Any]) -> None:
    if one["paused"]:
        show_words(f"No longer paused: {names}.")
    if one["rested"]:
        show_words(f"No longer resting for what was answered, the next call being a probe: {names}.")
    if one["probing"] and not one["rested"]:
        show_words(f"Its rest is over already, and its next call is a probe: {names}.")
    elif not one["paused"] and not one["rested"]:
        show_words(f"Neither paused nor resting for what was answered, so nothing was changed: {names}.")


@click.command(
    epilog=examples(
        "rlm endpoint limit rebalance_api 20/minute",
        'rlm endpoint limit rebalance_api "5/second; 1000/hour"',
        "rlm endpoint limit --type REBALANCE_NEEDED 20/minute    # of each of its endpoints",
    )
)
@_names_argument
@click.argument("rate", metavar="RATE")
@_type_option
@config_option
@json_option
def limit(config: Path | None, names: tuple[str, ...], rate: str, type_name: str | None, as_json: bool) -> None:
    """Change the limit of endpoints or budgets now, of each to RATE.

    NAME is that of an endpoint or a budget, or a pattern of endpoints (`*`, `?`). RATE is written as in the file:
    "20/minute", "5/second; 1000/hour". It applies at once to the same window, which keeps its history: nothing is
    allowed twice. It holds until the file's value for it changes.
    """
    from rlm.settings.values import check_limit  # noqa: PLC0415  # a command loads what it needs when it runs

    try:
        rate = check_limit(" ".join(rate.split()))
    except ValueError as error:
        raise CommandError(f"RATE {rate!r}: {error}", ExitCode.USAGE) from None
    by = who()

    def change(store: Store, one: Limited) -> dict[str, Any]:
        return {"name": one.name, "from": store.control.limit(one, rate, by), "to": rate, "by": by}

    changed = _change(config, names, type_name, change)
    if as_json:
        _print_json(changed, names)
        return
    for told, alike in names_alike(changed, ("from",)):
        _tell_limit(told, alike)
    if any(one["from"] != rate for one in changed):
        show_words(
            f"{'It holds' if len(changed) == 1 else 'They hold'} until the file's value changes; `rlm endpoint "
            "changes` shows who changed what."
        )


def _tell_limit(names: str, one: dict[str, Any]) -> None:
    before, rate = one["from"], one["to"]
    if before == rate:
        show_words(f"The limit of {names} was {before} already; nothing was changed.")
    else:
        show_words(f"The limit of {names} was {before} and is {rate} from now on, for the calls already made as well.")


def names_alike(entries: Iterable[dict[str, Any]], keys: Sequence[str]) -> list[tuple[str, dict[str, Any]]]:
    """Put the names of entries together in which the same stands under `keys`, each time with the last of them."""
    alike: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for one in entries:
        alike.setdefault(tuple(one[key] for key in keys), []).append(one)
    return [(", ".join(one["name"] for one in group), group[-1]) for group in alike.values()]


def _change(
    config: Path | None,
    names: Sequence[str],
    type_name: str | None,
    change: Callable[[Store, Limited], dict[str, Any]],
) -> list[dict[str, Any]]:
    """Change each that is meant, one after the other; if one is unknown, none. Return what `change` returned."""
    from rlm.admin.endpoints import choose_limited  # noqa: PLC0415  # a command loads what it needs when it runs

    if not names and type_name is None:
        raise click.UsageError("Name endpoints or budgets, or --type; `rlm endpoint list` shows them.")
    changed: list[dict[str, Any]] = []
    with store_of(config) as store:
        for one in choose_limited(store.settings, names, type_name):
            try:
                changed.append(change(store, one))
            except StoreError:
                if changed:
                    done = ", ".join(each["name"] for each in changed)
                    say(f"{counted(len(changed), 'change')} had been made before this: {done}.")
                raise
    return changed


def _print_json(changed: Sequence[dict[str, Any]], names: Sequence[str]) -> None:
    """Print the one that was named, or under `endpoints` all that were meant."""
    alone = [one["name"] for one in changed] == list(names)
    print_json(changed[0] if alone and len(changed) == 1 else {"endpoints": changed})


def who() -> str:
    """Name who runs this command, `user@host`, for the record of changes."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user without an entry, as in some containers
        user = str(os.getuid())
    name = f"{user}@{socket.gethostname()}"[:_LONGEST_WHO]
    return name.encode("utf-8", "replace").decode()
