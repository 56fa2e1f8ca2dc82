"""The self-test: Redis is checked, processes are started, one run is judged, and everything is removed again."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from rlm.core.clock import isoformat, system_clock
from rlm.core.endpoint import all_limited
from rlm.core.errors import StoreError, StoreUnfitError
from rlm.ledger import Store
from rlm.ledger.connect import connected
from rlm.ledger.fitness import check_fitness
from rlm.ledger.processes import Role
from rlm.ledger.selftests import SelfTest, SelfTests
from rlm.sandbox.configuration import events_by_type
from rlm.sandbox.items import make_batch
from rlm.sandbox.judge import Evidence, judge_batch
from rlm.sandbox.selftest.steps import BrokenOffError, SelfTestResult, Steps
from rlm.sandbox.stage import selftest_stage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rlm.processes.signals import StopSignals, Wakeup
    from rlm.sandbox.items import Batch
    from rlm.sandbox.selftest.steps import Step
    from rlm.sandbox.stage import Stage
    from rlm.settings import Settings

#: How long a worker that was told to end may take, seconds.
GONE_SECONDS = 5.0

_POLL_SECONDS = 0.02
#: What to do if a promise was not kept.
_FAULT = "this is a fault of RLM, unless this host is very busy: run it again, and report it with this output"


def self_test(
    settings: Settings,
    tell: Callable[[Step], None],
    wakeup: Wakeup,
    stop: StopSignals,
    *,
    allow_volatile: bool = False,
) -> SelfTestResult:
    """Test the installation of `settings`; `tell` gets each step once it is done. The configured APIs get no call.

    Whatever fails, the processes and keys of the test are removed, as far as Redis permits.
    """
    steps, began = Steps(tell), system_clock.monotonic()
    with suppress(BrokenOffError):
        try:
            with connected(settings) as server:
                store = Store(settings, server.url, server.revive)
                try:
                    _Test(store, steps, wakeup, stop, allow_volatile=allow_volatile).run()
                finally:
                    store.close()
        except StoreError as error:
            steps.fail("redis", error)
    steps.result.seconds = round(system_clock.monotonic() - began, 3)
    return steps.result


class _Test:
    def __init__(self, store: Store, steps: Steps, wakeup: Wakeup, stop: StopSignals, *, allow_volatile: bool) -> None:
        self._store = store
        self._steps = steps
        self._result = steps.result
        self._wakeup = wakeup
        self._stop = stop
        self._allow_volatile = allow_volatile
        self._tests = SelfTests(store)
        self._workers: set[int] = set()
        self._wrote = False

    def run(self) -> None:
        """Take all steps; those that clean up, even if earlier ones failed."""
        self._look()
        prefix = self._result.prefix = self._tests.new_prefix()
        batch = make_batch(prefix, events_by_type(self._store.settings), system_clock.now())
        self._result.events = len(batch.events)
        options = ["--allow-volatile"] if self._allow_volatile else []
        with selftest_stage(self._store, prefix, self._wakeup, self._stop, options) as stage:
            test = _entry(stage, batch)
            try:
                with suppress(BrokenOffError):
                    self._play(stage, prefix, test, batch)
                self._result.calls = len(stage.api.arrivals)
            finally:
                self._leave(stage, prefix, test)

    def _look(self) -> None:
        """Check that Redis is fit, and remove the keys of earlier tests that were killed."""
        with self._steps.step("redis") as seen:
            errors = check_fitness(self._store, allow_volatile=self._allow_volatile).errors
            if errors:
                raise StoreUnfitError("; ".join(one.message for one in errors), "; ".join(one.remedy for one in errors))
            seen.append(f"{self._store.address} is reached and fit")
        left = self._tests.left(system_clock.now())
        for prefix, test in left.items():
            with self._steps.step("leftovers") as seen:
                number = self._tests.sweep(prefix, test)
                self._tests.end(prefix)
                seen.append(f"removed {number} keys of a test that was killed ({isoformat(test.started_at)})")

    def _play(self, stage: Stage, prefix: str, test: SelfTest, batch: Batch) -> None:
        with self._steps.step("items") as seen:
            self._tests.begin(prefix, test)
            self._wrote = True
            stage.store.intake.push(batch.items)
            seen.append(f"{len(batch.items)} marked ones pushed onto {stage.settings.queue.events}")
        with self._steps.step("processes") as seen:
            stage.start_processes()
            seen.append("a scheduler, a supervisor and a worker came up")
        with self._steps.step("run") as seen:
            record = stage.await_record(stage.start_run(), lambda: self._note_workers(stage))
            seen.append(f"{record['state']} after {record['duration_seconds']:.1f} s")
        for check in judge_batch(Evidence.of(stage, record), batch, stage):
            self._steps.judge(check.name, check.faults, check.well, _FAULT)

    def _note_workers(self, stage: Stage) -> None:
        self._workers.update(one.pid for one in stage.store.processes.alive(Role.WORKER))

    def _leave(self, stage: Stage, prefix: str, test: SelfTest) -> None:
        """Stop the processes, then delete the keys; keep the end of the log if a step failed."""
        stage.children.stop()
        if not self._wrote:
            return
        pids = [*stage.children.pids, *self._workers]
        remedy = "see what they are (ps), and end them"
        self._steps.judge("gone", _still_there(pids), "every process it started has ended", remedy)
        with suppress(BrokenOffError), self._steps.step("clean") as seen:
            seen.append(f"{self._clean(prefix, test)} keys removed, none left")
        if not self._result.ok and not self._result.interrupted:
            self._result.log = stage.children.log()

    def _clean(self, prefix: str, test: SelfTest) -> int:
        """Delete the keys, check that none is left, and return how many there were."""
        try:
            number = self._tests.sweep(prefix, test)
            left = self._tests.remaining(prefix, test)
            if not left:
                self._tests.end(prefix)
        except StoreError as error:
            remedy = f"{error.remedy or 'see what it says'}; the next `rlm test` an hour later removes them"
            raise StoreError(f"{error.what}; keys {prefix}* may be left", remedy) from error
        if left:
            raise StoreError(f"{left} keys {prefix}* are left", "the next `rlm test` an hour later removes them")
        return number


def _entry(stage: Stage, batch: Batch) -> SelfTest:
    """Return the entry of this self-test for the register."""
    return SelfTest(
        started_at=system_clock.now(),
        host=socket.gethostname(),
        types=[one.name for one in stage.settings.event_types],
        windows=[one.window_id for one in all_limited(stage.settings.endpoints.values())],
        events=sorted(batch.events),
    )


def _still_there(pids: Iterable[int]) -> list[str]:
    """Wait for processes to end; return a fault for each that does not."""
    until = system_clock.monotonic() + GONE_SECONDS
    left = {pid for pid in pids if _lives(pid)}
    while left and system_clock.monotonic() < until:
        system_clock.sleep(_POLL_SECONDS)
        left = {pid for pid in left if _lives(pid)}
    return [f"process {pid} is still there" for pid in sorted(left)]


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
