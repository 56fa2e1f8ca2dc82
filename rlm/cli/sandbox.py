"""`rlm demo`, `rlm test` and `rlm mock-api`: the system at work in a sandbox, and the API that enforces limits."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import (
    command,
    print_json,
    say,
    settings_of,
    show,
    stop_signals,
    volatile_option,
    wants_json,
)
from rlm.core.text import counted

if TYPE_CHECKING:
    from rlm.settings import Settings


@command("rlm demo", "rlm demo --events 300 --speed 20", "rlm demo --real-time    # three minutes, as in life")
@click.option("--events", default=900, show_default=True, type=click.IntRange(1, 100_000), help="How many events.")
@click.option("--speed", default=10.0, show_default=True, help="Divide all times by this, from 0.1 to 60.")
@click.option("--real-time", is_flag=True, help="The same as --speed 1.")
def demo(*, events: int, speed: float, real_time: bool, config: Path | None) -> None:
    """Show the whole system at work on one window, live, then report what happened.

    An embedded server, a mock API that refuses every call above its limit, a scheduler, a supervisor and its workers
    are started for this and gone afterwards. If you have a configuration, it is the one shown; its Redis and its APIs
    are not touched. Exits with 1 if anything was not as promised, with 130 if it was ended early.
    """
    from rlm.sandbox.demo import prologue

    if not 0.1 <= (pace := 1.0 if real_time else speed) <= 60:  # noqa: PLR2004  # as its help says
        raise click.BadParameter(f"{speed:g} is not from 0.1 to 60", param_hint="--speed")
    with stop_signals() as stop:
        settings = settings_of(config)
        for line in prologue(settings, events, pace):
            (say if wants_json() else show)(line)
        _play(f"RLM demo, {events:,} events, {pace:g} times as fast", events, settings, pace, stop)
    show("Next: `rlm init` in an empty directory writes a configuration of your own to\nbegin with.")


@command("rlm test", "rlm test --config /etc/rlm/rlm.toml --json", name="test", params=[volatile_option])
def test(*, config: Path | None, allow_volatile: bool) -> None:
    """Test the installation: a small demo on the configured Redis, with real processes and a mock API.

    A few events of the configured types are sent to an API on this host; the configured endpoints get no call.
    Everything happens under a prefix of its own, PREFIX-test-..., beside a running system, and is removed again.
    """
    from rlm.ledger.store import Store

    with stop_signals() as stop:
        settings = settings_of(config)
        options = ["--allow-volatile"] if allow_volatile else []
        with Store(settings, keeps_server=True) as store:
            store.require_fit(allow_volatile=allow_volatile, claim=False)
            _play("RLM test, 50 events", 50, settings, 10.0, stop, store.url, options)


def _play(title: str, events: int, settings: Settings, *staged: Any) -> None:
    """Play a demo on a stage, and print what happened; end the command if anything was not as promised."""
    from rlm.sandbox.demo import play, summary, view_on
    from rlm.sandbox.stage import set_up

    view = view_on(sys.stderr if wants_json() else sys.stdout, title)
    with set_up(settings, *staged) as stage:
        verdict = play(stage, view, events)
    print_json(verdict)
    show()
    for line in summary(verdict, settings.event_types):
        show(line)
    if verdict.broken:
        raise SystemExit(1)


@command("rlm mock-api", "rlm mock-api --port 9000", name="mock-api", prints_data=False)
@click.option("--port", default=8090, show_default=True, type=click.IntRange(0, 65535), help="0 picks a free one.")
def mock_api(*, config: Path | None, port: int) -> None:
    """Serve the configured endpoints on 127.0.0.1, each with its limit enforced strictly by arrival.

    The path of each endpoint's URL answers POST: 200 after the type's processing_seconds, 429 with Retry-After above
    its limit or its budget's. Ends with SIGTERM or Ctrl-C, and says how many calls came.
    """
    from rlm.sandbox.mockapi import MockApi

    with stop_signals() as stop, MockApi(settings_of(config).event_types, port=port) as api:
        say(f"rlm mock-api serves {len(api.summary())} endpoints on {api.url}")
        while not stop.graceful:
            stop.wait(60.0)
    for name, seen in api.summary().items():
        if seen.calls:
            show(
                f"{name}: {counted(seen.calls, 'call')}, {seen.accepted} accepted, {seen.refused} refused, "
                f"at most {seen.most} in any period of {seen.limit}"
            )
