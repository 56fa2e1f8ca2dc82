"""`rlm compliance`: whether the limits were kept, from the log of calls sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import ExitCode, config_option, examples, json_option, store_of
from rlm.cli.durations import Duration
from rlm.cli.printing import fitting_table, print_json, show, show_words, styled

if TYPE_CHECKING:
    from pathlib import Path


@click.command(epilog=examples("rlm compliance", "rlm compliance --since 2d --json | jq .ok"))
@click.option(
    "--since",
    "since_seconds",
    type=Duration(),
    metavar="DURATION",
    default="24h",
    show_default=True,
    help="How far to look back.",
)
@config_option
@json_option
def compliance(config: Path | None, since_seconds: float, as_json: bool) -> None:
    """Show the most calls in any period, by endpoint and budget, against its limit. Exits with 1 if one was exceeded.

    Counted are the calls that RLM sent, when it sent them, by the clock of Redis, not what a server read.
    """
    from rlm.ledger.reading.compliance import compliance as judge  # noqa: PLC0415  # a command loads what it needs when it runs

    with store_of(config) as store:
        found = judge(store, since_seconds)
    print_json(found) if as_json else _describe(found)
    if not found["ok"]:
        raise SystemExit(int(ExitCode.FAILED))


def _describe(found: dict[str, Any]) -> None:
    entries = {**found["by_endpoint"], **found["by_budget"]}
    rows = [_row(name, one, rule) for name, one in entries.items() for rule in one["rules"]]
    fitting_table(
        ["endpoint or budget", "calls", "most", "of", "in any", "last call of those", "verdict", ""],
        rows,
        lambda index: index in {1, 2, 3},
        spare=["last call of those"],
    )
    show()
    if found["ok"]:
        show_words(f"No limit was exceeded since {found['known_from']}.")
    else:
        over = [name for name, one in entries.items() if any(rule["exceeded"] for rule in one["rules"])]
        show_words(f"{styled('EXCEEDED', 'error')} since {found['from']}: {', '.join(over)}.")
    if found["known_why"]:
        show_words(f"{found['known_why']}. Of calls before {found['known_from']} nothing or not all is known.")


def _row(name: str, one: dict[str, Any], rule: dict[str, Any]) -> list[str]:
    return [
        name,
        f"{one['calls']:,}",
        f"{rule['most']:,}",
        f"{rule['amount']:,}",
        f"{rule['period_seconds']:g} s",
        rule["at"] or "-",
        styled("EXCEEDED", "error") if rule["exceeded"] else styled("ok", "ok"),
        "" if rule["in_force"] else "an earlier limit",
    ]
