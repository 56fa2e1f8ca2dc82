"""`rlm plan`: forecast a run for what waits or for given counts, with today's and with other settings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import command, opened, print_json, settings_of, several, show, table

if TYPE_CHECKING:
    from rlm.admin.whatif import Forecast, Question
    from rlm.admin.words import Verdict


@command(
    "rlm plan",
    "rlm plan --count REBALANCE_NEEDED=500 --add-endpoint REBALANCE_NEEDED=a5",
    "rlm plan --set types.REBALANCE_NEEDED.rate_limit=60/minute --workers 10",
    params=[
        several("--count counts", "TYPE=N", "Plan for N events of a type; repeatable."),
        click.Option(["--workers"], type=click.IntRange(1, 1000), metavar="N", help="With exactly N workers."),
        several("--set told", "KEY=VALUE", "With this value of a setting; repeatable."),
        several("--add-endpoint add", "TYPE=NAME", "With one more endpoint of a type, of this name; repeatable."),
    ],
)
def plan(*, config: Path | None, **options: Any) -> None:
    """Forecast a run without starting it: workers, when it is done, what will be left over, what binds.

    Without --count the forecast is for what waits now and for the windows as they are; with --count it is for those
    numbers, and for windows that are all open. --workers, --set and --add-endpoint ask what if; the answer is shown
    beside today's. Nothing is taken, sent or changed.
    """
    from rlm.admin.whatif import side_by_side

    question, forecasts = _answer(config, **options)
    today, last = forecasts[0], forecasts[-1]
    if not last.events:
        show("Nothing to do. `rlm plan --count TYPE=N` plans for a number; `rlm queue push FILE` pushes items.")
        return
    show(_sentence(today.verdict) if last is today else f"Today: {_sentence(today.verdict)}")
    if last is not today:
        show(f"What if ({' '.join(question.asked.assumptions)}): {_sentence(last.verdict)}")
    show()
    table("|#today" if last is today else "|#today|#what if", side_by_side(*forecasts))
    if last.outlook:
        show(f"\n{last.outlook.sentence}")


def print_verdict(config: Path | None) -> None:
    """Print the plan for what waits now, in one sentence for people."""
    show(_sentence(_answer(config)[1][0].verdict))


def _answer(config: Path | None, **options: Any) -> tuple[Question, Sequence[Forecast]]:
    from rlm.admin.whatif import PlanAsk, answer, read_question, view_of

    settings = settings_of(config)
    question = read_question(settings, PlanAsk(**options))
    with opened(settings) as store:
        forecasts = answer(store, question)
    print_json(view_of(forecasts, question))
    return question, forecasts


def _sentence(verdict: Verdict) -> str:
    return f"{verdict.words}: {verdict.more}." if verdict.more else f"{verdict.words}."
