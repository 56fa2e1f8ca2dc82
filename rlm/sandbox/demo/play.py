"""The demo: items on the audit list, processes started, one run on request, shown until its record is there."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.sandbox.demo.views import look, moment_of
from rlm.sandbox.items import make_items
from rlm.sandbox.judge import Evidence, judge_demo

if TYPE_CHECKING:
    from rlm.sandbox.demo.views import View
    from rlm.sandbox.judge import DemoVerdict
    from rlm.sandbox.stage import Stage

#: Between two moments that are shown, seconds: four pictures a second.
FRAME_SECONDS = 0.25
#: Items pushed in one command.
PUSH_ITEMS = 500


def play(stage: Stage, view: View, events: int, speed: float) -> DemoVerdict:
    """Show one run of `events` events, stop the processes, and judge the result.

    Raises:
        RunError: a process ended or made no progress, or a signal interrupted this one.
        StoreError: the server is gone.
    """
    items = make_items(events, [one.name for one in stage.settings.event_types], Random(), system_clock.now())
    for start in range(0, len(items), PUSH_ITEMS):  # before any process could take a part of them
        stage.store.intake.push(items[start : start + PUSH_ITEMS])
    stage.start_processes()
    with view:
        run_id = stage.start_run()

        def show() -> None:
            moment = look(stage.store, run_id)
            if moment is not None:
                view.show(moment)

        record = stage.await_record(run_id, show, FRAME_SECONDS)
        view.show(moment_of(record))
    stage.children.stop()
    return judge_demo(Evidence.of(stage, record), events=events, items=len(items), speed=speed)
