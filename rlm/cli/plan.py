"""`rlm plan`: forecast a run for what waits or for given counts, with today's settings and with others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import command, opened
from rlm.cli.completion import setting_values, type_counts, type_names
from rlm.cli.options import WholeNumber, several
from rlm.cli.printing import print_json, say, show, show_words
from rlm.core.text import span

if TYPE_CHECKING:
    from pathlib import Path

    from rlm.admin.question import PlanAnswer

_SET = "What if a setting had this value? Repeatable."
_ADDED = "What if a type had one more endpoint? Repeatable."
_WINDOWS = "How do the leftovers develop over the next N windows?"
_ARRIVING = "With --windows: N events arrive in a window of today; repeatable."
_REPLAY = "What would the last N runs have left over?"


@command(
    "rlm plan",
    "rlm plan --count REBALANCE_NEEDED=500 --add-endpoint REBALANCE_NEEDED",
    "rlm plan --set types.REBALANCE_NEEDED.rate_limit=60/minute --workers 10",
    "rlm plan --windows 20 --arrivals REBALANCE_NEEDED=400",
    "rlm plan --replay 100 --add-endpoint REBALANCE_NEEDED",
)
@several("--count", "counts", "TYPE=N", "Plan for N events of a type; repeatable.", shell_complete=type_counts)
@click.option("--workers", type=WholeNumber(min=1), metavar="N", help="What if there were exactly N workers?")
@several("--set", "told", "KEY=VALUE", _SET, shell_complete=setting_values)
@several("--add-endpoint", "add", "TYPE", _ADDED, shell_complete=type_names)
@click.option("--windows", type=WholeNumber(1, 10_000), metavar="N", help=_WINDOWS)
@several("--arrivals", "arriving", "TYPE=N", _ARRIVING, shell_complete=type_counts)
@click.option("--replay", type=WholeNumber(1, 10_000), metavar="N", help=_REPLAY)
def plan(*, config: Path | None, **options: Any) -> None:
    """Forecast a run without starting it: workers, when it is done, what will be left over, what binds.

    Without --count it is for what waits now, leftovers included, as far as the windows of the endpoints are open now.
    With --count it is for those numbers and windows that are all open. Nothing is taken, sent or changed. Redis is
    needed for both: the limits in force, and how long calls take, are read there.

    --workers, --set and --add-endpoint ask what would be if; the answer stands beside today's. An added endpoint has
    the limit of its type and an open window. --windows plans one window after the other, each with what the last one
    left over and what arrives meanwhile: as many as in the last 20 runs, or as --arrivals says.

    --replay plans finished runs again, from the counts, limits and durations in their records, and with --workers,
    --set and --add-endpoint says what they would have left over. What a run would not have left over, the next would
    not have had.
    """
    from rlm.admin.question import PlanAsk, answer, read_question, replayed
    from rlm.cli.plan_text import show_replay
    from rlm.core.errors import BadQuestionError
    from rlm.settings import load_settings

    settings = load_settings(config)
    try:
        question = read_question(settings, PlanAsk(**options))
    except BadQuestionError as error:
        if error.option:
            raise click.BadParameter(str(error), param_hint=error.option) from None
        raise click.UsageError(str(error)) from None
    for remark in question.remarks():
        say(remark)
    with opened(settings) as store:
        if number := question.asked.replay:
            show_replay(replayed(store, question, number))
            return
        found = answer(store, question)
    if unread := found.backlog.waiting.unread:
        read = found.backlog.waiting.items
        say(f"Only the oldest {read:,} items were read; {unread:,} more wait and are not planned for.")
    _show(found)


def _show(answered: PlanAnswer) -> None:
    from rlm.cli.plan_text import compare, describe, show_windows

    today, last = answered.forecasts[0], answered.forecasts[-1]
    asked = last is not today
    print_json(answered.as_json())
    if last.open_run:
        window = span(last.case.settings.run.window_seconds)
        show_words(f"A run is open (`rlm status`); this plans a new window of {window} for what waits now.")
        show()
    if asked:
        compare(today, last, answered.backlog.waiting)
    else:
        describe(today, answered.backlog.waiting)
    if answered.arrivals:
        show_windows(last, answered.arrivals, today if asked else None)
