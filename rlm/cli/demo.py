"""`rlm demo`: the whole system at work, once, in a directory of its own that goes away again."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from rlm.cli.common import ExitCode, NumberRange, WholeNumber, config_option, examples, json_option
from rlm.cli.printing import print_json, say, show

if TYPE_CHECKING:
    from pathlib import Path

#: What time is divided by where nobody says otherwise.
DEFAULT_SPEED = 10.0


@click.command(
    epilog=examples(
        "rlm demo", "rlm demo --events 300 --speed 20", "rlm demo --real-time    # three minutes, as in life"
    )
)
@click.option(
    "--events", default=900, show_default=True, type=WholeNumber(1, 100_000), help="How many, over all types."
)
@click.option(
    "--speed",
    type=NumberRange(0.1, 60),
    help=f"Divide the window, the limits and the times of calls by this.  [default: {DEFAULT_SPEED:g}]",
)
@click.option("--real-time", is_flag=True, help="The same as --speed 1.")
@config_option
@json_option
def demo(*, events: int, speed: float | None, real_time: bool, config: Path | None, as_json: bool) -> None:
    """Show the whole system at work on one window, live, then say what happened.

    An embedded server, a mock API that refuses every call above its limit, a scheduler, a supervisor and its workers:
    all of it is started for this and gone afterwards. Your configuration is shown if there is one, its Redis and its
    APIs are not touched. Ctrl-C ends it early, a second one at once.

    Exits with 1 if anything was not as promised: a call refused, an event lost or left over that should have fitted.
    """
    if real_time and speed is not None:
        raise click.UsageError("--real-time is --speed 1; give only one of them.")
    from rlm.processes import signals  # noqa: PLC0415  # a command loads what it needs when it runs
    from rlm.sandbox.demo import play, prologue, staged, summary, view_on  # noqa: PLC0415
    from rlm.settings import load_settings  # noqa: PLC0415

    pace = 1.0 if real_time else speed or DEFAULT_SPEED
    wakeup = signals.Wakeup()
    with signals.StopSignals(wakeup) as stop:
        settings = load_settings(config)
        tell = say if as_json else show
        for line in prologue(settings, events, pace):
            tell(line)
        view = view_on(sys.stderr if as_json else sys.stdout, f"RLM demo, {events:,} events, {pace:g} times as fast")
        with staged(settings, pace, stop) as stage:
            verdict = play(stage, view, events, pace, wakeup, stop)
    if as_json:
        print_json(verdict.as_json())
    else:
        show()
        for line in summary(verdict, settings.event_types):
            show(line)
    if verdict.broken:
        raise SystemExit(int(ExitCode.FAILED))
