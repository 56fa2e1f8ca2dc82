"""Measures the main job: RLM beside the theoretical bound, an achievable schedule and what one would use instead.

uv run python -m benchmarks.pace                              # all, three times, time divided by ten
uv run python -m benchmarks.pace --load full --repeat 1       # one load, once
uv run python -m benchmarks.pace --contender rlm --speed 1                  # RLM alone at real speed
"""

from __future__ import annotations

import functools
import tempfile
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

from benchmarks.harness.api import Call, serving
from benchmarks.harness.contenders import Program, Rlm
from benchmarks.harness.processes import private_redis
from benchmarks.harness.work import LOADS, Work, best_schedule, lower_bound, main_job
from benchmarks.report import parser, report

#: A contender may try for so many windows; the rest counts as undone.
PATIENCE_WINDOWS = 3
RIVALS = [Program(kind, padded) for kind in ("threads", "bullmq") for padded in (False, True)]


def measure(work: Work, contender: Rlm | Program) -> dict[str, float]:
    """Let a contender do the work once.

    RLM has its embedded server, which is safe on its disk at every write; the others have one that writes nothing.
    """
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="rlm-bench-")))
        api = stack.enter_context(serving(work, directory))
        url = "" if isinstance(contender, Rlm) else stack.enter_context(private_redis(directory, durable=False))
        running = stack.enter_context(contender.ready(work, api.url, url, directory))
        running.begin()
        api.await_events(work.count, PATIENCE_WINDOWS * work.window)
        started_at, forecast = running.result(work.window + 30)
        return judge(api.calls(), work, started_at, forecast)


def judge(calls: list[Call], work: Work, started_at: float, forecast: float | None) -> dict[str, float]:
    """Return the figures of a run that was started at `started_at`, from the server's own account of the calls."""
    takes, answered = work.takes(), {}
    for call in calls:
        if call.admitted:
            answered.setdefault(call.event_id, call.at + takes[call.endpoint])
    first = min((call.at for call in calls), default=started_at)
    makespan = max(answered.values(), default=first) - first
    admitted = Counter(call.event_id for call in calls if call.admitted)
    return {
        "makespan, s": makespan,
        "over the bound": makespan / lower_bound(work),
        "over the schedule": makespan / best_schedule(work),
        "first call, s": first - started_at,
        "refused calls": sum(not call.admitted for call in calls),
        "repeats": sum(admitted.values()) - len(admitted),
        "undone in the window": work.count - sum(at <= started_at + work.window for at in answered.values()),
        **({"forecast's error": abs(forecast - makespan) / makespan} if forecast and makespan else {}),
    }


def main() -> None:
    options = parser(__doc__, RIVALS)
    options.add_argument("--speed", type=float, default=10.0, help="what time is divided by")
    options.add_argument("--load", choices=LOADS, action="append", help="only this one; may be repeated")
    chosen = options.parse_args()
    works = {load: main_job(load, chosen.speed) for load in chosen.load or LOADS}
    ends = {"bound": lower_bound, "schedule": best_schedule}
    computed = {
        f"{load} {name}": {"makespan, s": of(work)} for load, work in works.items() for name, of in ends.items()
    }
    report(chosen, {load: functools.partial(measure, work) for load, work in works.items()}, computed)


if __name__ == "__main__":
    main()
