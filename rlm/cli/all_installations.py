"""`rlm status --all`: a line of each installation, and their totals."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.admin.installations import MISCONFIGURED, find_installations, overview_of_all
from rlm.cli.common import ExitCode
from rlm.cli.printing import print_json, show, show_words, styled, table
from rlm.core.text import counted, safe_line, span

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

_LOOKS = {"well": "ok", "rest": "dim", "warn": "warn", "bad": "error", None: "error"}


def show_all(places: Sequence[Path]) -> None:
    """Print the installations of these files and folders, as JSON or as a table.

    Raises:
        SystemExit: one of them cannot be shown: 2 if a file is at fault, else 4.
    """
    found = overview_of_all(find_installations(places))
    print_json(found)
    headings = ["installation", "state", "run", "done", "left", "ends in", "endpoints", "verdict"]
    table(
        headings,
        [_row(one) for one in found["installations"]],
        right=["done", "left", "ends in"],
        spare=["run", "endpoints"],
    )
    show()
    show_words(_totals(found["totals"]))
    states = [one["state"] for one in found["installations"] if one["error"] is not None]
    if states:
        raise SystemExit(int(ExitCode.USAGE if MISCONFIGURED in states else ExitCode.REDIS))


def _row(one: Mapping[str, Any]) -> list[object]:
    told = safe_line(one["verdict"] if one["error"] is None else " ".join(one["error"].split()))
    is_open = one["seconds_left"] is not None
    return [
        one["name"],
        styled(safe_line(one["state"]), _LOOKS.get(one["level"], "warn")),
        one["run_id"],
        one["done"],
        one["left"],
        span(one["ends_in_seconds"]) if is_open else None,
        _endpoints(one),
        told,
    ]


def _endpoints(one: Mapping[str, Any]) -> str | None:
    if one["endpoints"] is None:
        return None
    return f"{one['unwell']:,} of {one['endpoints']:,} not well" if one["unwell"] else "all well"


def _totals(totals: Mapping[str, int]) -> str:
    silent = totals["installations"] - totals["answered"]
    told = f"{counted(totals['installations'], 'installation')}"
    told += f", {silent:,} of them cannot be shown" if silent else ""
    return (
        f"{told}; {counted(totals['open'], 'run')} open; {totals['done']:,} done, {totals['left']:,} left; "
        f"{totals['unwell']:,} of {counted(totals['endpoints'], 'endpoint')} not well."
    )
