"""`rlm endpoint`: how the endpoints stand, and what was changed on the live system; rlm/cli/steer.py changes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import Group, config_option, examples, json_option, number_argument, store_of
from rlm.cli.printing import fitting_table, print_json, show, show_words, styled
from rlm.cli.steer import limit, names_alike, pause, resume
from rlm.core.text import counted, span

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: What each health looks like; the others are a warning.
_LOOKS = {"ok": "ok", "full": "ok", "resting": "error", "held": "error"}


@click.group(cls=Group)
def endpoint() -> None:
    """See the endpoints and budgets; pause, resume, change a limit."""


endpoint.add_command(pause)
endpoint.add_command(resume)
endpoint.add_command(limit)


@endpoint.command(
    "list", epilog=examples("rlm endpoint list", "rlm endpoint list --json | jq '.[] | select(.health != \"ok\")'")
)
@config_option
@json_option
def list_endpoints(config: Path | None, as_json: bool) -> None:
    """List endpoints and budgets: limit, calls used and free, health.

    Next is when a slot is free, "-" where it is paused until resumed.
    """
    from rlm.admin.endpoints import endpoint_list  # noqa: PLC0415  # a command loads what it needs when it runs

    with store_of(config) as store:
        entries = endpoint_list(store)
    if as_json:
        print_json(entries)
        return
    headings = ["name", "of", "limit", "used", "free", "next", "failures", "health"]
    healths = {entry["name"]: entry["health"] for entry in entries}
    rows = [_row(entry, healths) for entry in entries]
    fitting_table(headings, rows, lambda index: 2 < index < 7, spare=["of", "failures"])  # noqa: PLR2004  # the numbers
    by_hand = [entry for entry in entries if entry["limit_by"] != "file"]
    if by_hand:
        show()
    for names, alike in names_alike(by_hand, ("limit", "limit_by")):
        show_words(_limit_note(names, alike))


def _row(entry: dict[str, Any], healths: Mapping[str, str]) -> list[str]:
    wait = entry["next_slot_seconds"]
    return [
        entry["name"],
        f"budget of {counted(len(entry['types']), 'type')}" if entry["kind"] == "budget" else ", ".join(entry["types"]),
        entry["limit"],
        str(entry["used"]),
        str(entry["free"]),
        "now" if wait == 0 else span(wait),
        str(entry["failures"]),
        _health(entry) + _budget_health(entry["budget"], healths),
    ]


def _health(entry: dict[str, Any]) -> str:
    words = [styled(entry["health"], _LOOKS.get(entry["health"], "warn"))]
    if entry["circuit_seconds"] is not None:
        words.append(span(entry["circuit_seconds"]))
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


def _limit_note(names: str, entry: dict[str, Any]) -> str:
    if entry["limit_by"] is None:
        return f"{names}: {entry['limit']} is not what the file has; no record is kept of who set it."
    return (
        f"{names}: {entry['limit']} was set by {entry['limit_by']} at {entry['limit_at']} and holds until the "
        "file's value for it changes."
    )


@endpoint.command(epilog=examples("rlm endpoint changes", "rlm endpoint changes 100 --json"))
@number_argument
@config_option
@json_option
def changes(config: Path | None, number: int, as_json: bool) -> None:
    """List the last N changes (20), newest first.

    They are of limits, pauses and resumes. The newest 1000 are kept. That the file's limits were published for the
    first time is no change.
    """
    from rlm.admin.endpoints import changes_made  # noqa: PLC0415  # a command loads what it needs when it runs

    with store_of(config) as store:
        entries = changes_made(store, number)
    if as_json:
        print_json(entries)
    elif not entries:
        show_words("Nothing was changed yet: limits are as the file has them.")
    else:
        names = ["at", "by", "name", "what", "from", "to"]
        rows = [["-" if entry[name] is None else entry[name] for name in names] for entry in map(_in_words, entries)]
        fitting_table(names, rows, lambda _index: False)


def _in_words(change: dict[str, Any]) -> dict[str, Any]:
    """Say of a resume what it ended as health does by now: the record has `open` for what was resting."""
    return change | {"from": change["from"].replace("open", "resting")} if change["what"] == "resume" else change
