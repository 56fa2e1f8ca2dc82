"""The self-test: a fit Redis, processes up, one run, what it left checked, and everything gone again."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from rlm.core.clock import isoformat, system_clock
from rlm.core.errors import StoreError, StoreUnfitError
from rlm.ledger import Store
from rlm.ledger.connect import address, connected
from rlm.ledger.fitness import check_fitness
from rlm.ledger.processes import Role
from rlm.ledger.selftests import SelfTests
from rlm.sandbox.configuration import events_by_type
from rlm.sandbox.demo.play import CLOSE_SECONDS, Acts
from rlm.sandbox.selftest.items import make_batch
from rlm.sandbox.selftest.stage import noted, staged
from rlm.sandbox.selftest.steps import BrokenOffError, Outcome, Steps
from rlm.sandbox.selftest.verdict import judge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rlm.ledger.selftests import SelfTest
    from rlm.processes.signals import StopSignals, Wakeup
    from rlm.sandbox.demo.stage import Stage
    from rlm.sandbox.selftest.items import Batch
    from rlm.sandbox.selftest.steps import Step
    from rlm.settings import Settings

#: A worker that was told to leave is gone by then, seconds.
GONE_SECONDS = 5.0

_POLL_SECONDS = 0.02


def self_test(
    settings: Settings,
    tell: Callable[[Step], None],
    wakeup: Wakeup,
    stop: StopSignals,
    *,
    allow_volatile: bool = False,
) -> Outcome:
    """Test the installation of `settings`; each step is told as soon as it is done. The configured APIs get no call.

    Whatever fails, what the test has started and written is removed, as far as Redis lets it.
    """
    outcome, began = Outcome(), system_clock.monotonic()
    steps = Steps(outcome, tell)
    with suppress(BrokenOffError):
        try:
            with connected(settings) as server:
                store = Store(settings, server.url, server.revive)
                try:
                    _Test(store, outcome, steps, wakeup, stop, allow_volatile=allow_volatile).run()
                finally:
                    store.close()
        except StoreError as error:
            steps.fail("redis", error)
    outcome.seconds = round(system_clock.monotonic() - began, 3)
    return outcome


class _Test:
    def __init__(
        self,
        store: Store,
        outcome: Outcome,
        steps: Steps,
        wakeup: Wakeup,
        stop: StopSignals,
        *,
        allow_volatile: bool,
    ) -> None:
        self._store = store
        self._outcome = outcome
        self._steps = steps
        self._wakeup = wakeup
        self._stop = stop
        self._allow_volatile = allow_volatile
        self._tests = SelfTests(store.client, store.settings)
        self._workers: set[int] = set()
        self._wrote = False

    def run(self) -> None:
        """Take all steps, the last ones whatever became of those before."""
        self._look()
        prefix = self._outcome.prefix = self._tests.new_prefix()
        batch = make_batch(prefix, events_by_type(self._store.settings), system_clock.now())
        self._outcome.events = len(batch.events)
        options = ["--allow-volatile"] if self._allow_volatile else []
        with staged(self._store.settings, self._store.url, prefix, self._stop, options) as stage:
            test = noted(stage, batch)
            try:
                with suppress(BrokenOffError):
                    self._play(stage, prefix, test, batch)
                self._outcome.calls = len(stage.api.arrivals)
            finally:
                self._leave(stage, prefix, test)

    def _look(self) -> None:
        """See that Redis is fit, and remove what earlier tests left that were killed."""
        with self._steps.step("redis") as seen:
            errors = check_fitness(self._store.client, allow_volatile=self._allow_volatile).errors
            if errors:
                raise StoreUnfitError("; ".join(one.message for one in errors), "; ".join(one.remedy for one in errors))
            seen.append(f"{address(self._store.client)} is reached and fit")
        left = self._tests.left(system_clock.now())
        for prefix, test in left.items():
            with self._steps.step("leftovers") as seen:
                number = self._tests.sweep(prefix, test)
                self._tests.end(prefix)
                seen.append(f"removed {number} keys of a test that was killed ({isoformat(test.started_at)})")

    def _play(self, stage: Stage, prefix: str, test: SelfTest, batch: Batch) -> None:
        acts = Acts(stage, self._wakeup, self._stop)
        with self._steps.step("items") as seen:
            self._tests.begin(prefix, test)
            self._wrote = True
            stage.store.intake.push(batch.items)
            seen.append(f"{len(batch.items)} marked ones pushed onto {stage.store.keys.events}")
        with self._steps.step("processes") as seen:
            acts.raise_curtain()
            seen.append("a scheduler, a supervisor and a worker came up")
        with self._steps.step("run") as seen:
            run_id = acts.start_run()
            patience = stage.settings.run.window_seconds + CLOSE_SECONDS

            def record() -> object:
                self._workers.update(one.pid for one in stage.store.processes.alive(Role.WORKER))
                return stage.store.runs.record(run_id)

            acts.wait_for(record, patience, f"run {run_id} did not end")
            found = stage.store.runs.record(run_id) or {}
            seen.append(f"{found['state']} after {found['duration_seconds']:.1f} s")
        judge(stage, batch, found, self._steps)

    def _leave(self, stage: Stage, prefix: str, test: SelfTest) -> None:
        """Stop the processes, then delete the keys; where something was wrong, keep the end of the log."""
        stage.children.stop()
        if not self._wrote:
            return
        pids = [*stage.children.pids, *self._workers]
        remedy = "see what they are (ps), and end them"
        self._steps.judge("gone", _still_there(pids), "every process it started has ended", remedy)
        with suppress(BrokenOffError), self._steps.step("clean") as seen:
            seen.append(f"{self._clean(prefix, test)} keys removed, none left")
        if not self._outcome.ok and not self._outcome.interrupted:
            self._outcome.log = stage.children.log()

    def _clean(self, prefix: str, test: SelfTest) -> int:
        """Delete the keys, and see that there are none; return how many there were."""
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


def _still_there(pids: Iterable[int]) -> list[str]:
    """Wait for processes to be gone; name those that are not."""
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
