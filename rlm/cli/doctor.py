"""`rlm doctor` checks the installation; `rlm compliance` checks the log of calls sent against the limits."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import ExitCode, command, store_of, tell_new_server
from rlm.cli.options import Duration, volatile_option
from rlm.cli.printing import print_json, show, show_verdict, show_words, styled, table
from rlm.core.errors import ConfigurationError
from rlm.core.text import counted, safe_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rlm.ledger.fitness import Finding

#: The verdict for each severity, on the screen and in the JSON.
VERDICTS = {"warning": "warn", "error": "fail"}
_WORST_FIRST = ["fail", "warn", "ok"]


@command(
    "rlm doctor",
    "rlm doctor -v                      # what is well, too",
    "rlm doctor --strict                # in a health check: warnings count, too",
    "rlm doctor --json | jq '.findings[] | select(.ok | not)'",
)
@click.option("--strict", is_flag=True, help="Exit with 1 where there is a warning, too.")
@click.option("--verbose", "-v", is_flag=True, help="Show what is well, too, each on a line.")
@volatile_option
def doctor(*, config: Path | None, allow_volatile: bool, strict: bool, verbose: bool, as_json: bool) -> None:
    """Check the installation; say what is wrong and what to do: what failed first, then warnings.

    Looks at the configuration and who may read it, Sentry, whether each endpoint can be connected to, Redis (fit,
    near, its clock, what it forgot), who runs and who leads, the open run, events that do not get on, endpoints,
    how long calls take, and the books. What cannot be looked at is told, and the rest is looked at all the same.

    Exits with 0 if nothing failed, warnings or not; 1 if something did; 4 if that is Redis; 2 if it is the
    configuration.
    """
    from rlm.admin.doctor import examine
    from rlm.settings import load_settings

    try:
        settings = load_settings(config)
    except ConfigurationError as error:
        _print(_without(error, config, allow_volatile=allow_volatile), as_json=as_json, verbose=verbose)
        raise
    tell_new_server(settings)
    findings = list(examine(settings, allow_volatile=allow_volatile))
    _print(findings, as_json=as_json, verbose=verbose)
    if code := _exit_code(findings, strict=strict):
        raise SystemExit(int(code))


def _without(error: ConfigurationError, config: Path | None, *, allow_volatile: bool) -> list[Finding]:
    """Examine what can be examined without a valid configuration; `error` says what is wrong with it."""
    from rlm.admin.doctor import examine_without
    from rlm.settings import load_sound
    from rlm.settings.sources import choose_file

    try:
        file = choose_file(config, os.environ)
    except ConfigurationError:  # there is no such file
        file = None
    return list(examine_without(error, file, load_sound(config), allow_volatile=allow_volatile))


def _exit_code(findings: Sequence[Finding], *, strict: bool) -> ExitCode:
    failed = [found for found in findings if verdict(found) == "fail"]
    if any(found.name.split(".")[0] == "redis" for found in failed):
        return ExitCode.REDIS
    if failed or (strict and not all(found.ok for found in findings)):
        return ExitCode.FAILED
    return ExitCode.DONE


def verdict(found: Finding) -> str:
    """Return `ok`, `warn` or `fail` for a finding."""
    return "ok" if found.ok else VERDICTS[found.severity.value]


def _print(findings: Sequence[Finding], *, as_json: bool, verbose: bool) -> None:
    if as_json:
        ok = not any(verdict(found) == "fail" for found in findings)
        print_json({"ok": ok, "findings": [_as_json(found) for found in findings]})
    else:
        _describe(findings, verbose=verbose)


def _as_json(found: Finding) -> dict[str, Any]:
    return {
        "name": found.name,
        "ok": found.ok,
        "verdict": verdict(found),
        "severity": None if found.ok else found.severity.value,
        "message": found.message,
        "remedy": found.remedy,
    }


def _describe(findings: Sequence[Finding], *, verbose: bool) -> None:
    """Print the findings, the worst first; what is well takes one line unless `verbose`."""
    shown = sorted((one for one in findings if verbose or not one.ok), key=lambda one: _WORST_FIRST.index(verdict(one)))
    names = max((len(safe_line(found.name)) for found in shown), default=0)
    for found in shown:
        show_verdict(verdict(found), found.name, found.message, "" if found.ok else found.remedy, names)
    if well := sum(found.ok for found in findings) if not verbose else 0:
        show(f"{styled('ok', 'ok')}    {counted(well, 'check')} found nothing wrong; -v shows each")
    show()
    show(_summary([verdict(found) for found in findings]))


def _summary(verdicts: Sequence[str]) -> str:
    errors, warnings = verdicts.count("fail"), verdicts.count("warn")
    if not errors and not warnings:
        return styled("All is well.", "ok")
    kind = "error" if errors else "warn"
    return styled(f"{counted(errors, 'error')}, {counted(warnings, 'warning')}.", kind)


@command("rlm compliance", "rlm compliance --since 2d --json | jq .ok")
@click.option(
    "--since",
    "since_seconds",
    type=Duration(),
    metavar="DURATION",
    default="24h",
    show_default=True,
    help="How far to look back.",
)
def compliance(config: Path | None, since_seconds: float, as_json: bool) -> None:
    """Show the most calls in any period, by endpoint and budget, against its limit. Exits with 1 if one was exceeded.

    Counted are the calls that RLM sent, when it sent them, by the clock of Redis, not what a server read.
    """
    from rlm.ledger.reading.compliance import compliance as judge

    with store_of(config) as store:
        found = judge(store, since_seconds)
    print_json(found) if as_json else _describe_calls(found)
    if not found["ok"]:
        raise SystemExit(int(ExitCode.FAILED))


def _describe_calls(found: dict[str, Any]) -> None:
    entries = {**found["by_endpoint"], **found["by_budget"]}
    rows = [_rule_row(name, one, rule) for name, one in entries.items() for rule in one["rules"]]
    table(
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


def _rule_row(name: str, one: dict[str, Any], rule: dict[str, Any]) -> list[str]:
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
