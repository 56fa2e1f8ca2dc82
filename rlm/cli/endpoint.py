"""`rlm endpoint`: how the endpoints stand; pause and resume one; change a limit on the live system."""

from __future__ import annotations

import math
import os
import pwd
import socket
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import (
    CommandError,
    ExitCode,
    Group,
    config_option,
    examples,
    json_option,
    number_argument,
    store_of,
)
from rlm.cli.completing import limited_names
from rlm.cli.printing import fitting_table, print_json, show, show_words, styled
from rlm.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rlm.endpoint import Limited
    from rlm.store import Store

#: The longest pause that ends by itself, seconds.
LONGEST_PAUSE_SECONDS = 366 * 86_400

_LONGEST_WHO = 200
#: What each health looks like; the others are a warning.
_LOOKS = {"ok": "ok", "full": "ok", "resting": "error", "held": "error"}

name_argument = click.argument("name", metavar="NAME", shell_complete=limited_names)


@click.group(cls=Group)
def endpoint() -> None:
    """See the endpoints and budgets; pause, resume, change a limit."""


@endpoint.command(
    "list", epilog=examples("rlm endpoint list", "rlm endpoint list --json | jq '.[] | select(.health != \"ok\")'")
)
@config_option
@json_option
def list_endpoints(config: Path | None, as_json: bool) -> None:
    """List endpoints and budgets: limit, calls used and free, health.

    Next is in how many seconds a slot is free, "-" where it is paused until resumed.
    """
    from rlm.endpoints import endpoint_list  # noqa: PLC0415  # a command loads what it needs when it runs

    with store_of(config) as store:
        entries = endpoint_list(store)
    if as_json:
        print_json(entries)
        return
    headings = ["name", "of", "limit", "used", "free", "next", "failures", "health"]
    healths = {entry["name"]: entry["health"] for entry in entries}
    rows = [_row(entry, healths) for entry in entries]
    fitting_table(headings, rows, lambda index: 2 < index < 7, spare=["of", "failures"])  # noqa: PLR2004  # the numbers
    notes = [_limit_note(entry) for entry in entries if entry["limit_by"] != "file"]
    if notes:
        show()
    for note in notes:
        show_words(note)


def _row(entry: dict[str, Any], healths: Mapping[str, str]) -> list[str]:
    wait = entry["next_slot_seconds"]
    return [
        entry["name"],
        f"budget of {counted(len(entry['types']), 'type')}" if entry["kind"] == "budget" else ", ".join(entry["types"]),
        entry["limit"],
        str(entry["used"]),
        str(entry["free"]),
        "-" if wait is None else f"{wait:.1f}",
        str(entry["failures"]),
        _health(entry) + _budget_health(entry["budget"], healths),
    ]


def _health(entry: dict[str, Any]) -> str:
    words = [styled(entry["health"], _LOOKS.get(entry["health"], "warn"))]
    if entry["circuit_seconds"] is not None:
        words.append(f"{entry['circuit_seconds']:.1f} s")
    elif entry["health"] == "paused":
        words.append("until resumed")
    if entry["circuit_reason"]:
        words.append(f"({entry['circuit_reason']})")
    if entry["paused_by"]:
        words.append(f"{'' if entry['health'] == 'paused' else 'and paused '}by {entry['paused_by']}")
    return " ".join(words)


def _budget_health(budget: str | None, healths: Mapping[str, str]) -> str:
    """Say of an endpoint what its budget keeps from it, whatever its own health."""
    health = healths.get(budget or "", "ok")
    return "" if health == "ok" else f"; its budget {budget} is {health}"


def _limit_note(entry: dict[str, Any]) -> str:
    if entry["limit_by"] is None:
        return f"{entry['name']}: {entry['limit']} is not what the file has; no record is kept of who set it."
    return (
        f"{entry['name']}: {entry['limit']} was set by {entry['limit_by']} at {entry['limit_at']} and holds until the "
        "file's value for it changes."
    )


@endpoint.command(epilog=examples("rlm endpoint pause rebalance_api", "rlm endpoint pause rebalance_api --for 600"))
@name_argument
@click.option("--for", "seconds", type=float, metavar="SECONDS", help="How long; else until it is resumed.")
@config_option
@json_option
def pause(config: Path | None, name: str, seconds: float | None, as_json: bool) -> None:
    """Send no new call to an endpoint, or to any of a budget.

    The others take its share. It holds at once, in a run under way as well; calls under way are not cut. Said again,
    the last word counts.
    """
    if seconds is not None and not (math.isfinite(seconds) and 0 < seconds <= LONGEST_PAUSE_SECONDS):
        raise click.UsageError(
            f"--for {seconds:g}: must be a number of seconds above 0, at most {LONGEST_PAUSE_SECONDS} (366 days); "
            "without it the pause lasts until `rlm endpoint resume`."
        )
    by = who()
    with store_of(config) as store:
        store.control.pause(_found(store, name), by, seconds)
    if as_json:
        print_json({"name": name, "paused_seconds": seconds, "by": by})
    else:
        until = f"`rlm endpoint resume {name}`" if seconds is None else f"{seconds:g} s have passed, or it is resumed"
        show_words(f"{name} is paused until {until}. Calls under way are not cut; no new one is sent to it.")


@endpoint.command(epilog=examples("rlm endpoint resume rebalance_api"))
@name_argument
@config_option
@json_option
def resume(config: Path | None, name: str, as_json: bool) -> None:
    """End a pause, and a rest for what an endpoint answered.

    Where it was throttled or failing, its next call is its probe then.
    A rest because its window cannot be trusted stands: what was sent is not known, so a limit might be exceeded.
    """
    with store_of(config) as store:
        limited = _found(store, name)
        resumed = store.control.resume(limited, who())
        held = store.windows.look([limited])[1][name].held_seconds
    if as_json:
        print_json({"name": name, "paused": resumed.paused, "rested": resumed.rested, "held_seconds": round(held, 3)})
        return
    if resumed.paused:
        show_words(f"{name} is no longer paused.")
    if resumed.rested:
        show_words(f"{name} rests no longer for what it answered; its next call is a probe.")
    if not resumed.paused and not resumed.rested:
        show_words(f"{name} was neither paused nor resting for what it answered; nothing was changed.")
    if held > 0:
        show_words(f"{name} is held for another {held:.1f} s all the same: its window cannot be trusted before.")


@endpoint.command(
    epilog=examples(
        "rlm endpoint limit rebalance_api 20/minute", 'rlm endpoint limit rebalance_api "5/second; 1000/hour"'
    )
)
@name_argument
@click.argument("rate", metavar="RATE")
@config_option
@json_option
def limit(config: Path | None, name: str, rate: str, as_json: bool) -> None:
    """Change the limit of an endpoint or a budget now, to RATE.

    RATE is written as in the file: "20/minute", "5/second; 1000/hour". It applies at once to the same window,
    which keeps its history: nothing is allowed twice. It holds until the file's value for it changes.
    """
    from rlm.settings.values import check_limit  # noqa: PLC0415  # a command loads what it needs when it runs

    try:
        rate = check_limit(" ".join(rate.split()))
    except ValueError as error:
        raise CommandError(f"RATE {rate!r}: {error}", ExitCode.USAGE) from None
    by = who()
    with store_of(config) as store:
        before = store.control.limit(_found(store, name), rate, by)
    if as_json:
        print_json({"name": name, "from": before, "to": rate, "by": by})
    elif before == rate:
        show_words(f"The limit of {name} was {before} already; nothing was changed.")
    else:
        show_words(f"The limit of {name} was {before} and is {rate} from now on, for the calls already made as well.")
        show_words("It holds until the file's value for it changes; `rlm endpoint changes` shows who changed what.")


@endpoint.command(epilog=examples("rlm endpoint changes", "rlm endpoint changes 100 --json"))
@number_argument
@config_option
@json_option
def changes(config: Path | None, number: int, as_json: bool) -> None:
    """List the last N changes (20), newest first.

    They are of limits, pauses and resumes. The newest 1000 are kept.
    """
    from rlm.endpoints import change_entry  # noqa: PLC0415  # a command loads what it needs when it runs

    with store_of(config) as store:
        entries = [change_entry(one) for one in store.changes.newest(number)]
    if as_json:
        print_json(entries)
    elif not entries:
        show_words("Nothing was changed yet. The limits of the file are put on record when a run is planned.")
    else:
        names = ["at", "by", "name", "what", "from", "to"]
        rows = [["-" if entry[name] is None else entry[name] for name in names] for entry in entries]
        fitting_table(names, rows, lambda _index: False)


def who() -> str:
    """Name who runs this command, `user@host`, for the record of changes."""
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:  # a user without an entry, as in some containers
        user = str(os.getuid())
    name = f"{user}@{socket.gethostname()}"[:_LONGEST_WHO]
    return name.encode("utf-8", "replace").decode()


def _found(store: Store, name: str) -> Limited:
    """Find an endpoint or a budget by its name, as the configuration has it."""
    from rlm.endpoint import all_limited  # noqa: PLC0415  # a command loads what it needs when it runs
    from rlm.settings.faults import close_match, did_you_mean  # noqa: PLC0415

    known = {one.name: one for one in all_limited(store.settings.endpoints.values())}
    if name not in known:
        near = did_you_mean(close_match(name, known))
        raise CommandError(
            f"No endpoint or budget is named {name!r}{near}. `rlm endpoint list` shows those there are.", ExitCode.USAGE
        )
    return known[name]
