"""`rlm doctor`: looks the installation over and says what is wrong and what to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import ExitCode, config_option, counted, json_option, print_json, safe_line, show
from rlm.cli.processes import volatile_option

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rlm.settings import Settings
    from rlm.store.fitness import Finding


@click.command()
@volatile_option
@config_option
@json_option
def doctor(config: Path | None, allow_volatile: bool, as_json: bool) -> None:
    """Check the installation; say what is wrong and what to do.

    Looks at the configuration, whether Redis can be reached and will forget nothing, the clocks, who is running, the
    open run, whether calls take what is configured, and whether every event is accounted for.

    Exits with 0 if there is no error, warnings or not; 1 if there is one; 4 if it is Redis.
    """
    from rlm.settings import load_settings  # noqa: PLC0415  # a command loads what it needs when it runs

    findings = list(_findings(load_settings(config), allow_volatile=allow_volatile))
    errors = [found for found in findings if _verdict(found) == "error"]
    if as_json:
        print_json({"ok": not errors, "findings": [_as_json(found) for found in findings]})
    else:
        _describe(findings)
    if errors:
        raise SystemExit(int(ExitCode.REDIS if any(_is_of_redis(found) for found in errors) else ExitCode.FAILED))


def _findings(settings: Settings, *, allow_volatile: bool) -> Iterator[Finding]:
    """Look at one thing after the other; without a Redis that is fit there is nothing more to look at."""
    from rlm.checks import check_configuration, check_installation, check_redis, unreachable  # noqa: PLC0415
    from rlm.errors import StoreError  # noqa: PLC0415
    from rlm.store import open_store  # noqa: PLC0415

    yield check_configuration(settings)
    try:
        with open_store(settings) as store:
            of_redis = check_redis(store, allow_volatile=allow_volatile)
            yield from of_redis
            if not any(_verdict(found) == "error" for found in of_redis):
                yield from check_installation(store)
    except StoreError as error:
        yield unreachable(error)


def _verdict(found: Finding) -> str:
    return "ok" if found.ok else found.severity.value


def _is_of_redis(found: Finding) -> bool:
    return found.name.split(".")[0] == "redis"


def _as_json(found: Finding) -> dict[str, Any]:
    return {
        "name": found.name,
        "ok": found.ok,
        "severity": None if found.ok else found.severity.value,
        "message": found.message,
        "remedy": found.remedy,
    }


def _describe(findings: Sequence[Finding]) -> None:
    width = max(len(found.name) for found in findings)
    for found in findings:
        show(safe_line(f"{_verdict(found):<7}  {found.name:<{width}}  {found.message}"))
        if not found.ok:
            show(safe_line(f"{'':<7}  {'':<{width}}  > {found.remedy}"))
    show()
    verdicts = [_verdict(found) for found in findings]
    errors, warnings = verdicts.count("error"), verdicts.count("warning")
    if not errors and not warnings:
        show("All is well.")
    else:
        show(f"{counted(errors, 'error')}, {counted(warnings, 'warning')}.")
