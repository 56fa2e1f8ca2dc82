"""Checks: the installation (`rlm doctor`), the calls sent (`rlm compliance`)."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import ExitCode, command, settings_of, store_of, unread_url, waiting_for_redis
from rlm.cli.options import Duration, volatile_option
from rlm.cli.printing import print_json, say, show, show_verdict, show_words, styled, table
from rlm.core.text import counted, safe_line

if TYPE_CHECKING:
    from rlm.ledger.fitness import Finding

#: The verdict for each severity, on screen and in JSON.
VERDICTS = {"warning": "warn", "error": "fail"}


@command(
    "rlm doctor",
    "rlm doctor -v                      # all checks, each on a line",
    "rlm doctor --strict                # in a health check: warnings count, too",
    "rlm doctor --json | jq '.findings[] | select(.ok | not)'",
)
@click.option("--strict", is_flag=True, help="Exit with 1 if there is a warning, too.")
@click.option("--verbose", "-v", is_flag=True, help="Show the checks that found nothing wrong, too, each on a line.")
@volatile_option
def doctor(*, config: Path | None, allow_volatile: bool, strict: bool, verbose: bool) -> None:
    """Check the installation; print what is wrong and what to do: failures first, then warnings.

    Checks the configuration and who may read it, Sentry, whether each endpoint can be connected to, Redis (whether it
    is fit and near, its clock, what it forgot), which processes run and which scheduler leads, the open run, events
    that make no progress, endpoints, how long calls take, and the books. Reports what cannot be checked, and checks the
    rest all the same.

    Exits with 0 if nothing failed, with or without warnings; with 2 if the configuration failed, 4 if Redis did, 1 if
    anything else did.
    """
    from rlm.admin.doctor import examine

    settings = settings_of(config)
    if words := unread_url(settings):
        say(words)
    opening = waiting_for_redis(settings)
    found = _print(examine(settings, allow_volatile=allow_volatile, opening=opening), verbose=verbose)
    failed = [one["name"] for one in found if one["verdict"] == "fail"]
    if any(name.split(".")[0] == "redis" for name in failed):
        raise SystemExit(int(ExitCode.REDIS))
    if failed or (strict and not all(one["ok"] for one in found)):
        raise SystemExit(int(ExitCode.FAILED))


def _print(findings: Iterable[Finding], *, verbose: bool) -> list[dict[str, Any]]:
    """Print the findings, the worst first, and return their documents; good ones take one line unless `verbose`."""
    found: list[dict[str, Any]] = [
        {
            "name": one.name,
            "ok": one.ok,
            "verdict": "ok" if one.ok else VERDICTS[one.severity.value],
            "severity": None if one.ok else one.severity.value,
            "message": one.message,
            "remedy": one.remedy,
        }
        for one in findings
    ]
    print_json({"ok": all(one["verdict"] != "fail" for one in found), "findings": found})
    verdicts = ("fail", "warn", *(["ok"] if verbose else []))
    shown = [one for verdict in verdicts for one in found if one["verdict"] == verdict]
    names = max((len(safe_line(one["name"])) for one in shown), default=0)
    for one in shown:
        show_verdict(one["verdict"], one["name"], one["message"], "" if one["ok"] else one["remedy"], names)
    if well := len(found) - len(shown):
        show(f"{styled('ok', 'ok')}    {counted(well, 'check')} found nothing wrong; -v shows each")
    show()
    errors, warnings = (sum(one["verdict"] == verdict for one in found) for verdict in ("fail", "warn"))
    words = f"{counted(errors, 'error')}, {counted(warnings, 'warning')}." if errors or warnings else "All is well."
    show(styled(words, "error" if errors else "warn" if warnings else "ok"))
    return found


@command("rlm compliance", "rlm compliance --since 2d --json | jq .ok")
@click.option(
    "--since", type=Duration(), metavar="DURATION", default="24h", show_default=True, help="How far to look back."
)
def compliance(config: Path | None, since: float) -> None:
    """Show the most calls in any period, by endpoint and budget, against its limit. Exits with 1 if one was exceeded.

    Counts the calls that RLM sent, when it sent them by the clock of Redis, not what a server read.
    """
    from rlm.ledger.reading.compliance import compliance as judge
    from rlm.ledger.reading.compliance import exceeded, gap, rules

    with store_of(config) as store:
        found = judge(store, since)
    print_json(found)
    rows = [
        [
            one["name"],
            f"{one['calls']:,}",
            f"{one['most']:,}",
            f"{one['amount']:,}",
            f"{one['period_seconds']:g} s",
            one["at"] or "-",
            styled("EXCEEDED", "error") if one["exceeded"] else styled("ok", "ok"),
            "" if one["in_force"] else "an earlier limit",
        ]
        for one in rules(found)
    ]
    headings = ["endpoint or budget", "calls", "most", "of", "in any", "last call of those", "verdict", ""]
    table(headings, rows, right=["calls", "most", "of"], spare=["last call of those"])
    show()
    if found["ok"]:
        show_words(f"No limit was exceeded since {found['known_from']}.")
    else:
        show_words(f"{styled('EXCEEDED', 'error')} since {found['from']}: {', '.join(exceeded(found))}.")
    if unknown := gap(found):
        show_words(unknown)
    if not found["ok"]:
        raise SystemExit(int(ExitCode.FAILED))
