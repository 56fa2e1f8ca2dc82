"""Checks: the installation (`rlm doctor`), the calls sent (`rlm compliance`)."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from rlm.cli.common import ExitCode, command, settings_of, store_of
from rlm.cli.options import Duration, volatile_option
from rlm.cli.printing import print_json, show, show_verdict, styled, table
from rlm.core.text import counted

#: The verdict for each severity, and the noun.
_VERDICTS = {"error": "fail", "warning": "warn", "info": "info"}
_NOUNS = {"error": "error", "warning": "warning", "info": "note"}


@command("rlm doctor", "rlm doctor --json | jq '.findings[] | select(.ok | not)'")
@volatile_option
def doctor(*, config: Path | None, allow_volatile: bool) -> None:
    """Check the installation; print every condition with what to do, the worst first, and what is well.

    Exits with 0 if no condition is an error; with 4 if one of Redis is, 1 if any other is.
    """
    from rlm.admin.conditions import examine

    examination = examine(settings_of(config), allow_volatile=allow_volatile)
    print_json(examination)
    well = [check.name for check in examination.findings if check.ok]
    width = max(map(len, [*well, *(each.code for each in examination.conditions)]))
    for each in examination.conditions:
        show_verdict(_VERDICTS[each.severity], each.code, each.sentence, each.remedy, width)
    for name in well:
        show_verdict("ok", name, "", "", width)
    show()
    number = Counter[str](condition.severity for condition in examination.conditions)
    parts = [counted(number[severity], noun) for severity, noun in _NOUNS.items() if number[severity]]
    show(styled(f"{', '.join(parts)}." if parts else "All is well.", "error" if number["error"] else "ok"))
    if not examination.ok:
        errors = [each.code for each in examination.conditions if each.severity == "error"]
        is_redis = any(code.startswith("redis_") for code in errors)
        raise SystemExit(int(ExitCode.REDIS if is_redis else ExitCode.FAILED))


@command("rlm compliance", "rlm compliance --since 2d --json | jq .ok")
@click.option(
    "--since", type=Duration(), metavar="DURATION", default="24h", show_default=True, help="How far to look back."
)
def compliance(config: Path | None, since: float) -> None:
    """Show the most calls in any period, by endpoint and budget, against its limit. Exits with 1 if one was exceeded.

    Counts the calls that RLM sent, when it sent them by the clock of Redis, not what a server read.
    """
    from rlm.ledger.compliance import compliance as judge
    from rlm.ledger.compliance import exceeded, gap

    with store_of(config) as store:
        log = judge(store, since)
    print_json(log)
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
        for name, limited in log.limited.items()
        for rule in limited.rules
    ]
    headings = ["endpoint or budget", "calls", "most", "of", "in any", "last call of those", "verdict", ""]
    table(headings, rows, right=["calls", "most", "of"])
    show()
    if log.ok:
        show(f"No limit was exceeded since {log.known_from}.")
    else:
        show(f"{styled('EXCEEDED', 'error')} since {log.since}: {', '.join(exceeded(log))}.")
    if unknown := gap(log):
        show(unknown)
    if not log.ok:
        raise SystemExit(int(ExitCode.FAILED))
