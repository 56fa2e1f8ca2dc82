"""`rlm test`: the self-test of an installation, on the configured Redis, against a mock API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import ExitCode, config_option, examples, json_option, tell_new_server
from rlm.cli.printing import print_json, say, show, styled
from rlm.cli.processes import volatile_option
from rlm.cli.verdicts import show_verdict
from rlm.core.text import counted, safe_line

if TYPE_CHECKING:
    from pathlib import Path

    from rlm.sandbox.selftest import SelfTestResult, Step

#: Columns for the names of steps: `dead letters` is the longest.
_NAMES = 12


@click.command("test", epilog=examples("rlm test", "rlm test --config /etc/rlm/rlm.toml --json"))
@volatile_option
@config_option
@json_option
def test(*, config: Path | None, allow_volatile: bool, as_json: bool) -> None:
    """Test the installation: marked events, real processes, a mock API.

    A few events of each configured type go through the configured Redis to an API on this host that enforces limits of
    the configured kind, small enough that it takes about ten seconds. The configured endpoints get no call. Everything
    happens under a prefix of its own, beside a system that runs, and is removed again, also after Ctrl-C.

    Exits with 0 if all was well, 1 if something was not, 4 if that is Redis.
    """
    from rlm.processes import signals  # noqa: PLC0415  # a command loads what it needs when it runs
    from rlm.sandbox.selftest import self_test  # noqa: PLC0415
    from rlm.settings import load_settings  # noqa: PLC0415

    wakeup = signals.Wakeup()
    with signals.StopSignals(wakeup) as stop:
        settings = load_settings(config)
        tell_new_server(settings)
        tell = (lambda _: None) if as_json else _show
        outcome = self_test(settings, tell, wakeup, stop, allow_volatile=allow_volatile)
    if as_json:
        print_json(_as_json(outcome))
    else:
        _sum_up(outcome)
    if not outcome.ok:
        raise SystemExit(int(ExitCode.REDIS if outcome.of_redis else ExitCode.FAILED))


def _show(step: Step) -> None:
    took = f" ({step.seconds:.1f} s)" if step.seconds >= 0.1 else ""  # noqa: PLR2004  # what took no time needs none
    show_verdict("ok" if step.ok else "fail", step.name, f"{step.message}{took}", step.remedy, _NAMES)


def _sum_up(outcome: SelfTestResult) -> None:
    for line in outcome.log:
        say(styled(safe_line(line), "dim"))
    failed = sum(not step.ok for step in outcome.steps)
    show()
    if failed:
        show(styled(f"{failed} of {counted(len(outcome.steps), 'step')} failed, in {outcome.seconds:.1f} s.", "error"))
    else:
        events = counted(outcome.events, "event")
        show(styled(f"All is well: {events} in {outcome.seconds:.1f} s, and nothing of them is left.", "ok"))


def _as_json(outcome: SelfTestResult) -> dict[str, Any]:
    return {
        "ok": outcome.ok,
        "prefix": outcome.prefix or None,
        "events": outcome.events,
        "calls": outcome.calls,
        "seconds": outcome.seconds,
        "steps": [
            {
                "name": step.name,
                "ok": step.ok,
                "message": step.message,
                "remedy": step.remedy,
                "seconds": step.seconds,
            }
            for step in outcome.steps
        ],
        "log": outcome.log,
    }
