"""`rlm plan`: forecast a run for what waits or for given counts, with today's and with other settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import command, opened, settings_of
from rlm.cli.options import several
from rlm.cli.printing import print_json, say, show, table
from rlm.core.errors import BadQuestionError
from rlm.core.text import sentence

if TYPE_CHECKING:
    from rlm.admin.words import Verdict

_ADDED = "What if a type had one more endpoint, of this name? Repeatable."


@command(
    "rlm plan",
    "rlm plan --count REBALANCE_NEEDED=500 --add-endpoint REBALANCE_NEEDED=a5",
    "rlm plan --set types.REBALANCE_NEEDED.rate_limit=60/minute --workers 10",
)
@several("--count", "counts", "TYPE=N", "Plan for N events of a type; repeatable.")
@click.option("--workers", type=click.IntRange(1, 1000), metavar="N", help="What if there were exactly N workers?")
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
    from rlm.admin.whatif import PlanAsk, answer, read_question, side_by_side, view_of

    settings = settings_of(config)
    try:
        question = read_question(settings, PlanAsk(**options))
    except BadQuestionError as error:
        if error.option:
            raise click.BadParameter(str(error), param_hint=error.option) from None
        raise click.UsageError(str(error)) from None
    with opened(settings) as store:
        forecasts = answer(store, question)
    print_json(view_of(forecasts, question))
    today, last = forecasts[0], forecasts[-1]
    if last.unread:
        say(f"Only the oldest items were read; {last.unread:,} more wait and are not planned for.")
    if last.open_run:
        show("A run is open (`rlm status`); this plans a new window for what waits now.\n")
    if not last.events:
        show("Nothing to do. `rlm plan --count TYPE=N` plans for a number; `rlm queue push FILE` pushes items.")
        return
    show(_sentence(today.verdict) if last is today else f"Today: {_sentence(today.verdict)}")
    if last is not today:
        show(f"What if ({' '.join(question.asked.assumptions)}): {_sentence(last.verdict)}")
    show()
    table(["", "today", "what if"][: 1 + len(forecasts)], side_by_side(*forecasts), right=["today", "what if"])
    if last.outlook:
        show(f"\n{last.outlook.sentence}")


def print_verdict(config: Path | None) -> None:
    """Print the plan for what waits now, in one sentence for people."""
    from rlm.admin.whatif import PlanAsk, answer, read_question

    settings = settings_of(config)
    with opened(settings) as store:
        (forecast,) = answer(store, read_question(settings, PlanAsk()))
    print_json(forecast.view())
    show(_sentence(forecast.verdict))


def _sentence(verdict: Verdict) -> str:
    return sentence(f"{verdict.words}: {verdict.more}" if verdict.more else verdict.words)
