"""Checks: the installation (`rlm doctor`), the calls sent (`rlm compliance`)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from rlm.cli.common import ExitCode, command, settings_of, store_of
from rlm.cli.options import Duration, volatile_option
from rlm.cli.printing import print_json, show, show_verdict, show_words, styled, table
from rlm.core.text import counted

if TYPE_CHECKING:
    from rlm.admin.doctor import Examined

#: The verdict for each severity, on screen and in JSON.
VERDICTS = {"warning": "warn", "error": "fail"}


@command("rlm doctor", "rlm doctor --json | jq '.findings[] | select(.ok | not)'")
@volatile_option
def doctor(*, config: Path | None, allow_volatile: bool) -> None:
    """Check the installation; print what is wrong and what to do: failures first, then warnings.

    Checks the configuration, Redis (reachable, fit, its clock), keys that RLM did not write, the scheduler, supervisors
    and hosts, workers, the open run, endpoints, and the books.

    Exits with 0 if nothing failed, with or without warnings; with 4 if Redis did, 1 if anything else did.
    """
    from rlm.admin.doctor import examine

    if failed := _print(examine(settings_of(config), allow_volatile=allow_volatile)):
        is_redis = any(name.split(".")[0] == "redis" for name in failed)
        raise SystemExit(int(ExitCode.REDIS if is_redis else ExitCode.FAILED))


def _print(examined: Examined) -> list[str]:
    """Print the findings, the worst first, and return the names of those that failed."""
    documents: list[dict[str, Any]] = [
        {
            "name": finding.name,
            "ok": finding.ok,
            "verdict": "ok" if finding.ok else VERDICTS[finding.severity.value],
            "severity": None if finding.ok else finding.severity.value,
            "message": finding.message,
            "remedy": finding.remedy,
        }
        for finding in examined.findings
    ]
    number = Counter(document["verdict"] for document in documents)
    conditions = [msgspec.to_builtins(condition) for condition in examined.conditions]
    print_json({"ok": not number["fail"], "conditions": conditions, "findings": documents})
    documents.sort(key=lambda document: ("fail", "warn", "ok").index(document["verdict"]))
    width = max(len(document["name"]) for document in documents)
    for document in documents:
        show_verdict(document["verdict"], document["name"], document["message"], document["remedy"], width)
    show()
    if number["fail"] or number["warn"]:
        words = f"{counted(number['fail'], 'error')}, {counted(number['warn'], 'warning')}."
        show(styled(words, "error" if number["fail"] else "warn"))
    else:
        show(styled("All is well.", "ok"))
    return [document["name"] for document in documents if document["verdict"] == "fail"]


@command("rlm compliance", "rlm compliance --since 2d --json | jq .ok")
@click.option(
    "--since", type=Duration(), metavar="DURATION", default="24h", show_default=True, help="How far to look back."
)
def compliance(config: Path | None, since: float) -> None:
    """Show the most calls in any period, by endpoint and budget, against its limit. Exits with 1 if one was exceeded.

    Counts the calls that RLM sent, when it sent them by the clock of Redis, not what a server read.
    """
    from rlm.ledger.reading.compliance import compliance as judge
    from rlm.ledger.reading.compliance import exceeded, gap

    with store_of(config) as store:
        found = judge(store, since)
    print_json(found)
    rows = [
        [
            name,
            f"{limited.calls:,}",
            f"{rule.most:,}",
            f"{rule.amount:,}",
            f"{rule.period_seconds:g} s",
            rule.at or "-",
            styled("EXCEEDED", "error") if rule.exceeded else styled("ok", "ok"),
            "" if rule.in_force else "an earlier limit",
        ]
        for name, limited in found.limited.items()
        for rule in limited.rules
    ]
    headings = ["endpoint or budget", "calls", "most", "of", "in any", "last call of those", "verdict", ""]
    table(headings, rows, right=["calls", "most", "of"])
    show()
    if found.ok:
        show_words(f"No limit was exceeded since {found.known_from}.")
    else:
        show_words(f"{styled('EXCEEDED', 'error')} since {found.since}: {', '.join(exceeded(found))}.")
    if unknown := gap(found):
        show_words(unknown)
    if not found.ok:
        raise SystemExit(int(ExitCode.FAILED))
