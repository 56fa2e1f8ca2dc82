"""The play: items on the audit list, processes up, a run on request, shown until its record is there."""

from __future__ import annotations

import select
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar

from rlm.core.clock import system_clock
from rlm.core.errors import RunError
from rlm.ledger.processes import Role, WorkerState
from rlm.sandbox.demo.items import make_items
from rlm.sandbox.demo.moment import look, moment_of
from rlm.sandbox.demo.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlm.processes.signals import StopSignals, Wakeup
    from rlm.sandbox.demo.stage import Stage
    from rlm.sandbox.demo.verdict import Verdict
    from rlm.sandbox.demo.views import View

T = TypeVar("T")

#: Between two moments that are shown, seconds: four pictures a second.
FRAME_SECONDS = 0.25
#: How often the processes are looked at while they come up, seconds.
POLL_SECONDS = 0.02
#: How long the processes may take to come up and the scheduler to start the run, seconds.
START_SECONDS = 30.0
#: How long after its deadline a run may be on record at the latest, seconds. It promises one.
CLOSE_SECONDS = 10.0
#: Items pushed in one command.
PUSH_ITEMS = 500

_OWNER = "demo"


class BrokenOffByHandError(RunError):
    """Raised when a signal asked this process to stop. What it has started is taken down on the way out."""


def play(stage: Stage, view: View, events: int, speed: float, wakeup: Wakeup, stop: StopSignals) -> Verdict:
    """Show one run of `events` events, stop the processes, and judge what came of it.

    Raises:
        RunError: a process ended or did not get on, or a signal asked this one to stop.
        StoreError: the server is gone.
    """
    acts = Acts(stage, wakeup, stop)
    items = acts.lay_out(events)
    acts.raise_curtain()
    with view:
        record = acts.watch(acts.start_run(), view)
    stage.children.stop()
    return judge(
        record,
        stage.settings.event_types,
        stage.api.arrivals,
        stage.api.summary(),
        stage.api.budget_summary(),
        events=events,
        unsettled=sum(count.unsettled for count in stage.store.ledger.count(stage.store.known_types).values()),
        items=items,
        speed=speed,
    )


class Acts:
    """What happens on a stage, one act after the other. Every one may raise RunError: broken off, or interrupted."""

    def __init__(self, stage: Stage, wakeup: Wakeup, stop: StopSignals) -> None:
        self._stage = stage
        self._wakeup = wakeup
        self._stop = stop

    def lay_out(self, events: int) -> int:
        """Push the items as the audit system does, before anybody could take a part of them; return their number."""
        types = [one.name for one in self._stage.settings.event_types]
        items = make_items(events, types, Random(), system_clock.now())
        for start in range(0, len(items), PUSH_ITEMS):
            self._stage.store.intake.push(items[start : start + PUSH_ITEMS])
        return len(items)

    def raise_curtain(self) -> None:
        """Start the processes; wait until they are as warm as after their first run: a worker is ready.

        Who wants a worker must hold the conductor's lease. So it is the demo's until there is something to conduct.
        """
        store = self._stage.store
        store.processes.want(store.leases.acquire(_OWNER, START_SECONDS), 1)
        for command in ("scheduler", "supervisor"):
            self._stage.children.start(command)

        def ready() -> bool | None:
            workers = [one.state for one in store.processes.alive(Role.WORKER)]
            return (WorkerState.READY in workers and bool(store.processes.alive(Role.SCHEDULER))) or None

        self.wait_for(ready, START_SECONDS, "its scheduler, its supervisor and a first worker did not come up")

    def start_run(self) -> str:
        """Have the scheduler start a run, and let it conduct; return the run's id."""
        store = self._stage.store
        request = store.schedule.request()
        store.leases.release(_OWNER)
        store.processes.wake("scheduler")
        reply = self.wait_for(lambda: store.schedule.reply(request), START_SECONDS, "its scheduler did not start a run")
        store.schedule.forget_reply(request)
        return str(reply.get("run_id") or reply["open"])  # a tick may have come first

    def watch(self, run_id: str, view: View) -> dict[str, Any]:
        """Show the run until it is on record; return the record."""
        store = self._stage.store

        def record() -> dict[str, Any] | None:
            moment = look(store, run_id)
            if moment is not None:
                view.show(moment)
            return None if moment else store.runs.record(run_id)

        patience = self._stage.settings.run.window_seconds + CLOSE_SECONDS
        found = self.wait_for(record, patience, f"run {run_id} did not end", FRAME_SECONDS)
        view.show(moment_of(found))
        return found

    def wait_for(
        self, condition: Callable[[], T | None], seconds: float, trouble: str, pause: float = POLL_SECONDS
    ) -> T:
        """Ask every `pause` seconds until there is an answer; `trouble` says what it means that there is none."""
        until = system_clock.monotonic() + seconds
        while (answer := condition()) is None:
            if self._stop.graceful:
                raise BrokenOffByHandError(
                    f"The {self._stage.children.what} was interrupted. It has left nothing behind."
                )
            self._stage.children.check()
            if system_clock.monotonic() > until:
                raise self._stage.children.trouble(f"{trouble} within {seconds:g} s")
            select.select([self._wakeup], [], [], pause)
            self._wakeup.drain()
        return answer
