"""`rlm plan`: the dry run, for what waits now or for given counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rlm.cli.common import config_option, counted, json_option, opened, print_json, say, show, table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rlm.backlog import Waiting
    from rlm.plan import Plan
    from rlm.settings import Settings
    from rlm.store import Store

#: A first call that comes this much later than the run is worth a line, seconds.
WORTH_A_LINE_SECONDS = 0.1


@click.command()
@click.option("--count", "counts", multiple=True, metavar="TYPE=N", help="Plan for N events of a type; repeatable.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="Plan for exactly N workers.")
@config_option
@json_option
def plan(config: Path | None, counts: tuple[str, ...], workers: int | None, as_json: bool) -> None:
    """Forecast a run without starting it: workers, when it is done, what will be left over, what binds.

    Without --count it is for what waits now, leftovers included, as far as the windows of the endpoints are open now.
    With --count it is for those numbers and windows that are all open. Nothing is taken, sent or changed.
    """
    from rlm.settings import load_settings  # noqa: PLC0415  # a command loads what it needs when it runs

    settings = load_settings(config)
    asked = _read_counts(counts, settings)
    with opened(settings) as store:
        backlog, waiting = (asked, None) if counts else _backlog(store)
        computed = _compute(store, backlog, workers, fresh=bool(counts))
    if waiting is not None and waiting.unread:
        say(f"Only the oldest {waiting.items:,} items were read; {waiting.unread:,} more wait and are not planned for.")
    if as_json:
        print_json(computed.as_json())
    else:
        _describe(computed, waiting)


def _read_counts(counts: tuple[str, ...], settings: Settings) -> dict[str, int]:
    from rlm.settings.faults import close_match, did_you_mean  # noqa: PLC0415

    read: dict[str, int] = {}
    for text in counts:
        name, _, number = text.rpartition("=")
        if not name or not (number.isascii() and number.isdecimal()):
            raise click.BadParameter(f"{text!r} is not TYPE=N, for example REBALANCE_NEEDED=200", param_hint="--count")
        if name not in settings.types:
            hint = did_you_mean(close_match(name, settings.types))
            known = ", ".join(one.name for one in settings.event_types)
            raise click.BadParameter(
                f"{name!r} is not a configured type{hint}; there are {known}", param_hint="--count"
            )
        if name in read:
            raise click.BadParameter(f"{name!r} is given twice", param_hint="--count")
        read[name] = int(number)
    return read


def _backlog(store: Store) -> tuple[dict[str, int], Waiting]:
    from rlm.backlog import backlog  # noqa: PLC0415

    return backlog(store)


def _compute(store: Store, backlog: Mapping[str, int], workers: int | None, *, fresh: bool) -> Plan:
    from rlm.planning import live_windows, plan_run, types_in_force  # noqa: PLC0415
    from scheduler.conductor import START_SECONDS  # noqa: PLC0415  # the time a run takes to its first call

    types = types_in_force(store)
    endpoints = {endpoint.name: endpoint for one in types for endpoint in one.endpoints}
    windows = {} if fresh else live_windows(store, list(endpoints.values()), ahead_seconds=START_SECONDS)
    return plan_run(store.settings, backlog, types, windows, gone_seconds=START_SECONDS, workers=workers)


def _describe(found: Plan, waiting: Waiting | None) -> None:
    events = sum(part.events for part in found.by_type.values())
    if waiting is not None and (waiting.letters or waiting.duplicates):
        letters, duplicates = counted(waiting.letters, "dead letter"), counted(waiting.duplicates, "duplicate")
        show(f"Not planned for: {letters} and {duplicates} that will come of what waits.")
    if not events:
        show("Nothing to do. `rlm plan --count TYPE=N` plans for a number; `rlm queue push FILE` pushes items.")
        return
    rows = [
        [name, f"{part.events:,}", _seconds(part.forecast_seconds), f"{part.expected_leftover:,}"]
        for name, part in found.by_type.items()
    ]
    table(["type", "events", "done after", "left over"], rows)
    show()
    if found.first_call_seconds >= WORTH_A_LINE_SECONDS:
        show(f"The windows are full: the first call can begin {found.first_call_seconds:.1f} s from now.")
    lanes = counted(found.threads, "lane")
    show(
        f"Forecast: {found.forecast_seconds:.1f} s from the first call to the last answer, with "
        f"{counted(found.workers, 'worker')} of {lanes}; no schedule could take less than "
        f"{found.lower_bound_seconds:.1f} s."
    )
    show(f"{found.binds[0].upper()}{found.binds[1:]}.")
    if found.fits:
        show("Nothing will be left over.")
    else:
        show(f"{counted(found.expected_leftover, 'event')} of {events:,} will be left over for the next run.")


def _seconds(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds else "-"
