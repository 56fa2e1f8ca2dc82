"""The self-test: real processes on the configured Redis, one run judged step by step, then all of it removed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from rlm.core.clock import isoformat, system_clock
from rlm.core.endpoint import all_limited
from rlm.core.errors import InterruptedByHandError, RLMError, StoreError, StoreUnfitError
from rlm.ledger import Store, open_store
from rlm.ledger.fitness import check_fitness
from rlm.ledger.processes import Role
from rlm.ledger.selftests import SelfTest, SelfTests
from rlm.processes.alive import is_dead
from rlm.processes.signals import StopSignals
from rlm.sandbox.configuration import events_by_type
from rlm.sandbox.judge import Batch, Evidence, judge_batch, make_batch
from rlm.sandbox.stage import Stage, selftest_stage
from rlm.settings import Settings

#: Seconds that a worker may take to end after it was told to.
GONE_SECONDS = 5.0

_POLL_SECONDS = 0.02
#: The remedy for a broken promise.
_FAULT = "this is a fault of RLM, unless this host is very busy: run it again, and report it with this output"


@dataclass(frozen=True, slots=True)
class Step:
    """One check: what was seen, how long it took, and the remedy if it failed."""

    name: str
    ok: bool
    message: str
    seconds: float
    remedy: str = ""


class BrokenOffError(RLMError):
    """Raised when a step failed and the next ones make no sense; the failure has been reported."""


@dataclass(slots=True)
class SelfTestResult:
    """The result of a self-test; `tell` gets each step once it is done.

    `log` is the end of the processes' log if a step failed. `of_redis`: Redis failed or is unfit. `interrupted`: a
    signal ended the test.
    """

    tell: Callable[[Step], None]
    prefix: str = ""
    events: int = 0
    calls: int = 0
    seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    of_redis: bool = False
    interrupted: bool = False
    _since: float = field(default_factory=system_clock.monotonic)

    @property
    def ok(self) -> bool:
        """Whether every step succeeded."""
        return all(step.ok for step in self.steps)

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Take a step that appends what it saw to the list; if it raises, report that and raise BrokenOffError."""
        seen: list[str] = []
        try:
            yield seen
        except RLMError as error:
            self.fail(name, error)
            raise BrokenOffError(name) from error
        self._add(name, ok=True, message="; ".join(seen))

    def fail(self, name: str, error: RLMError) -> None:
        """Report a step that `error` ended."""
        what, remedy = str(error).partition("\n")[0], ""
        if isinstance(error, StoreError):
            self.of_redis = True
            what, remedy = error.what or what, error.remedy
        if isinstance(error, InterruptedByHandError):
            what, self.interrupted = "it was interrupted", True
        elif not remedy:
            remedy = "`rlm doctor` checks the installation"
        self._add(name, ok=False, message=what, remedy=remedy)

    def judge(self, name: str, faults: Sequence[str], well: str, remedy: str) -> None:
        """Report a check: `well` if there are no faults, else the faults."""
        self._add(name, ok=not faults, message="; ".join(faults) or well, remedy=remedy if faults else "")

    def _add(self, name: str, *, ok: bool, message: str, remedy: str = "") -> None:
        now = system_clock.monotonic()
        step = Step(name, ok, message, round(now - self._since, 3), remedy)
        self._since = now
        self.steps.append(step)
        self.tell(step)


def self_test(
    settings: Settings, tell: Callable[[Step], None], stop: StopSignals, *, allow_volatile: bool = False
) -> SelfTestResult:
    """Test the installation of `settings`; `tell` gets each step once it is done. The configured APIs get no call.

    Whatever fails, the processes and keys of the test are removed, as far as Redis permits.
    """
    result, began = SelfTestResult(tell), system_clock.monotonic()
    with suppress(BrokenOffError):
        try:
            with open_store(settings) as store:
                tests = SelfTests(store)
                _look(store, tests, result, allow_volatile=allow_volatile)
                prefix = result.prefix = tests.new_prefix()
                batch = make_batch(prefix, events_by_type(settings), system_clock.now())
                result.events = len(batch.events)
                options = ["--allow-volatile"] if allow_volatile else []
                with selftest_stage(store, prefix, stop, options) as stage:
                    entry = SelfTest(
                        started_at=system_clock.now(),
                        host=store.settings.host_name,
                        types=[one.name for one in stage.settings.event_types],
                        windows=[one.window_id for one in all_limited(stage.settings.endpoints.values())],
                        events=sorted(batch.events),
                    )
                    _Test(stage, tests, result, batch, entry).run()
        except StoreError as error:
            result.fail("redis", error)
    result.seconds = round(system_clock.monotonic() - began, 3)
    return result


def _look(store: Store, tests: SelfTests, result: SelfTestResult, *, allow_volatile: bool) -> None:
    """Check that Redis is fit, and remove the keys of earlier tests that were killed."""
    with result.step("redis") as seen:
        errors = check_fitness(store, allow_volatile=allow_volatile).errors
        if errors:
            raise StoreUnfitError("; ".join(one.message for one in errors), "; ".join(one.remedy for one in errors))
        seen.append(f"{store.address} is reached and fit")
    for prefix, test in tests.left(system_clock.now()).items():
        with result.step("leftovers") as seen:
            number = tests.sweep(prefix, test)
            tests.end(prefix)
            seen.append(f"removed {number} keys of a test that was killed ({isoformat(test.started_at)})")


@dataclass(slots=True)
class _Test:
    """The run of a batch on a stage, and the removal of all its traces."""

    stage: Stage
    tests: SelfTests
    result: SelfTestResult
    batch: Batch
    entry: SelfTest
    workers: set[int] = field(default_factory=set)
    wrote: bool = False

    def run(self) -> None:
        """Take all steps; those that clean up are taken even if earlier ones failed."""
        try:
            with suppress(BrokenOffError):
                self._play()
            self.result.calls = len(self.stage.api.arrivals)
        finally:
            self._leave()

    def _play(self) -> None:
        stage, items = self.stage, self.batch.items
        with self.result.step("items") as seen:
            self.tests.begin(self.result.prefix, self.entry)
            self.wrote = True
            stage.store.intake.push(items)
            seen.append(f"{len(items)} marked ones pushed onto {stage.settings.queue.events}")
        with self.result.step("processes") as seen:
            stage.start_processes()
            seen.append("a scheduler, a supervisor and a worker came up")
        with self.result.step("run") as seen:
            record = stage.await_record(stage.start_run(), self._note_workers)
            seen.append(f"{record['state']} after {record['duration_seconds']:.1f} s")
        for name, well, faults in judge_batch(Evidence.of(stage, record), self.batch, stage):
            self.result.judge(name, faults, well, _FAULT)

    def _note_workers(self) -> None:
        self.workers.update(one.pid for one in self.stage.store.processes.alive(Role.WORKER))

    def _leave(self) -> None:
        """Stop the processes, then delete the keys; keep the end of the log if a step failed."""
        stage, result = self.stage, self.result
        stage.stop()
        if not self.wrote:
            return
        left = _still_there([*stage.pids, *self.workers])
        self.result.judge("gone", left, "every process it started has ended", "see what they are (ps), and end them")
        with suppress(BrokenOffError), self.result.step("clean") as seen:
            seen.append(f"{self._clean()} keys removed, none left")
        if not result.ok and not result.interrupted:
            result.log = stage.log()

    def _clean(self) -> int:
        """Delete the keys, check that none is left, and return how many there were."""
        prefix, later = self.result.prefix, "the next `rlm test` an hour later removes them"
        try:
            number = self.tests.sweep(prefix, self.entry)
            left = self.tests.remaining(prefix, self.entry)
            if not left:
                self.tests.end(prefix)
        except StoreError as error:
            remedy = f"{error.remedy or 'see what it says'}; {later}"
            raise StoreError(f"{error.what}; keys {prefix}* may be left", remedy) from error
        if left:
            raise StoreError(f"{left} keys {prefix}* are left", later)
        return number


def _still_there(pids: Iterable[int]) -> list[str]:
    """Wait for processes to end; return a fault for each that does not."""
    until = system_clock.monotonic() + GONE_SECONDS
    left = {pid for pid in pids if not is_dead(pid)}
    while left and system_clock.monotonic() < until:
        system_clock.sleep(_POLL_SECONDS)
        left = {pid for pid in left if not is_dead(pid)}
    return [f"process {pid} is still there" for pid in sorted(left)]
