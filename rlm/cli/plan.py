"""`rlm plan`: forecast a run for what waits or for given counts, with today's and with other settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import command, opened, settings_of
from rlm.cli.options import several
from rlm.cli.printing import print_json, say, show, table
from rlm.core.text import counted, sentence, span

if TYPE_CHECKING:
    from rlm.admin.whatif import Forecast, PlanAnswer

_ADDED = "What if a type had one more endpoint, of this name? Repeatable."


@command(
    "rlm plan",
    "rlm plan --count REBALANCE_NEEDED=500 --add-endpoint REBALANCE_NEEDED=a5",
    "rlm plan --set types.REBALANCE_NEEDED.rate_limit=60/minute --workers 10",
)
@several("--count", "counts", "TYPE=N", "Plan for N events of a type; repeatable.")
@click.option("--workers", type=click.IntRange(min=1), metavar="N", help="What if there were exactly N workers?")
@several("--set", "told", "KEY=VALUE", "What if a setting had this value? Repeatable.")
@several("--add-endpoint", "add", "TYPE=NAME", _ADDED)
def plan(*, config: Path | None, **options: Any) -> None:
    """Forecast a run without starting it: workers, when it is done, what will be left over, what binds.

    Without --count the forecast is for what waits now, leftovers included, and for the endpoints' windows as far as
    they are open now. With --count it is for those numbers, and for windows that are all open. Nothing is taken, sent
    or changed. Both need Redis, because the limits in force, and how long calls take, are read there.

    --workers, --set and --add-endpoint ask what if; the answer is shown beside today's. An added endpoint has the limit
    of its type and an open window. The last line says when the backlog is gone if as many events arrive in each window
    as in the last 20 runs.
    """
    from rlm.admin.whatif import PlanAsk, answer, read_question
    from rlm.core.errors import BadQuestionError

    settings = settings_of(config)
    try:
        question = read_question(settings, PlanAsk(**options))
    except BadQuestionError as error:
        if error.option:
            raise click.BadParameter(str(error), param_hint=error.option) from None
        raise click.UsageError(str(error)) from None
    with opened(settings) as store:
        found = answer(store, question)
    if found.unread:
        say(f"Only the oldest items were read; {found.unread:,} more wait and are not planned for.")
    _show(found)


def print_verdict(config: Path | None) -> None:
    """Print the plan for what waits now, in one sentence for people."""
    from rlm.admin.verdict import verdict_on
    from rlm.admin.whatif import PlanAsk, answer, read_question

    settings = settings_of(config)
    with opened(settings) as store:
        found = answer(store, read_question(settings, PlanAsk()))
    print_json(found.view())
    today = found.forecasts[0]
    told = verdict_on(today)
    show(sentence(f"{told.words}: {told.more}" if told.more else told.words))


def _show(answered: PlanAnswer) -> None:
    today, last = answered.forecasts[0], answered.forecasts[-1]
    print_json(answered.view())
    if last.open_run:
        window = span(last.case.settings.run.window_seconds)
        show(f"A run is open (`rlm status`); this plans a new window of {window} for what waits now.")
        show()
    if not last.events:
        show("Nothing to do. `rlm plan --count TYPE=N` plans for a number; `rlm queue push FILE` pushes items.")
    elif last is not today:
        _compare(today, last)
    else:
        _describe(today)
    if last.events and last.outlook:
        show(last.outlook.sentence)


def _describe(found: Forecast) -> None:
    """Print a plan: a table of types, then when it is done, what binds, and which events are left over."""
    from rlm.admin.verdict import length

    plan = found.plan
    rows = [
        [name, f"{part.events:,}", length(part.forecast_seconds), f"{part.expected_leftover:,}"]
        for name, part in plan.by_type.items()
    ]
    table(["type", "events", "done after", "left over"], rows)
    show()
    if plan.releases:
        _until_done(found)
    elif found.case.suspect:
        then = "The run calls all the same, and plans anew once a call is answered well."
        show(f"No call is counted on: see below. {then}")
    else:
        show("No call can begin in time to be answered before the deadline.")
    show(f"{sentence(plan.binds)}")
    _left_over(found)


def _compare(today: Forecast, other: Forecast) -> None:
    from rlm.admin.verdict import side_by_side

    show(f"What if: {other.case.assumptions}.")
    show()
    table(["", "today", "what if"], list(side_by_side(today, other)))
    show()
    show(f"Today: {today.plan.binds}.")
    show(f"What if: {other.plan.binds}.")
    _left_over(other)


def _until_done(found: Forecast) -> None:
    from rlm.admin.verdict import WORTH_A_LINE_SECONDS

    plan, most = found.plan, found.case.workers or found.case.settings.workers.max
    if plan.first_call_seconds >= WORTH_A_LINE_SECONDS:
        show(f"The windows are full: the first call can begin {plan.first_call_seconds:.1f} s from now.")
    team = f"{counted(plan.workers, 'worker')} of {counted(plan.threads, 'lane')}"
    bound = f"no schedule on {counted(most, 'worker')} could take less than {plan.lower_bound_seconds:.1f} s"
    show(f"Forecast: {plan.forecast_seconds:.1f} s from the first call to the last answer, with {team}; {bound}.")


def _left_over(found: Forecast) -> None:
    plan, would_be = found.plan, "would be" if found.case.lacking else "will be"
    if found.case.lacking:
        show(f"At present nobody does this: {found.case.lacking}.")
    if plan.fits:
        show(f"Nothing {would_be} left over.")
        return
    unless = "" if plan.releases or not found.case.suspect else ", unless a probe is answered well before the deadline"
    told = f"{counted(plan.expected_leftover, 'event')} of {found.events:,} {would_be} left over for the next run"
    show(f"{told}{unless}.")
