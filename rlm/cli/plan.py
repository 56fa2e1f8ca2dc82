"""`rlm plan`: forecast a run for what waits or for given counts, with today's and with other settings."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import command, opened, print_json, say, settings_of, several, show, table

if TYPE_CHECKING:
    from rlm.admin.whatif import Forecast, PlanAnswer, PlanAsk


@command(
    "rlm plan",
    "rlm plan --count REBALANCE_NEEDED=500 --add-endpoint REBALANCE_NEEDED=a5",
    "rlm plan --set types.REBALANCE_NEEDED.rate_limit=60/minute --workers 10",
    params=[
        several("--count counts", "TYPE=N", "Plan for N events of a type; repeatable."),
        click.Option(["--workers"], type=click.IntRange(min=1), metavar="N", help="With exactly N workers."),
        several("--set told", "KEY=VALUE", "With this value of a setting; repeatable."),
        several("--add-endpoint add", "TYPE=NAME", "With one more endpoint of a type, of this name; repeatable."),
    ],
)
def plan(*, config: Path | None, **options: Any) -> None:
    """Forecast a run without starting it: workers, when it is done, what will be left over, what binds.

    Without --count the forecast is for what waits now, leftovers included, and for the endpoints' windows as far as
    they are open now. With --count it is for those numbers, and for windows that are all open. Nothing is taken, sent
    or changed.

    --workers, --set and --add-endpoint ask what if; the answer is shown beside today's. The last line says when the
    backlog is gone if as many events arrive in each window as in the last 20 runs.
    """
    from rlm.admin.whatif import PlanAsk, side_by_side

    answered = _answer(config, PlanAsk(**options))
    if answered.unread:
        say(f"Only the oldest items were read; {answered.unread:,} more wait and are not planned for.")
    today, last = answered.forecasts[0], answered.forecasts[-1]
    if last.open_run:
        show("A run is open (`rlm status`); this plans a new window for what waits now.\n")
    if not last.events:
        show("Nothing to do. `rlm plan --count TYPE=N` plans for a number; `rlm queue push FILE` pushes items.")
        return
    show(_verdict(today) if last is today else f"Today: {_verdict(today)}")
    if last is not today:
        show(f"What if ({last.case.assumptions}): {_verdict(last)}")
    show()
    table("|#today" if last is today else "|#today|#what if", side_by_side(*answered.forecasts))
    if last.outlook:
        show(f"\n{last.outlook.sentence}")


def print_verdict(config: Path | None) -> None:
    """Print the plan for what waits now, in one sentence for people."""
    from rlm.admin.whatif import PlanAsk

    show(_verdict(_answer(config, PlanAsk()).forecasts[0]))


def _answer(config: Path | None, ask: PlanAsk) -> PlanAnswer:
    from rlm.admin.whatif import answer, read_question

    settings = settings_of(config)
    question = read_question(settings, ask)
    with opened(settings) as store:
        answered = answer(store, question)
    print_json(answered.view())
    return answered


def _verdict(forecast: Forecast) -> str:
    from rlm.admin.whatif import verdict_on

    verdict = verdict_on(forecast)
    return f"{verdict.words}: {verdict.more}." if verdict.more else f"{verdict.words}."
