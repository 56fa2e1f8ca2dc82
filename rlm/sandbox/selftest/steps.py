"""The steps of a self-test, each reported as soon as it is checked, and the result of all."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.core.errors import RLMError, StoreError
from rlm.sandbox.stage import BrokenOffByHandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Step:
    """One check: what was seen, how long it took, and the remedy if it failed."""

    name: str
    ok: bool
    message: str
    seconds: float
    remedy: str = ""


@dataclass(slots=True)
class SelfTestResult:
    """The result of a self-test. `log` is the end of its processes' log if a step failed.

    `of_redis`: Redis failed or is not fit. `interrupted`: a signal ended the test.
    """

    prefix: str = ""
    events: int = 0
    calls: int = 0
    seconds: float = 0.0
    steps: list[Step] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    of_redis: bool = False
    interrupted: bool = False

    @property
    def ok(self) -> bool:
        """Whether every step succeeded."""
        return all(step.ok for step in self.steps)


class BrokenOffError(RLMError):
    """Raised when a step failed and the next ones make no sense; it has been reported."""


class Steps:
    """Reports each step and keeps it."""

    def __init__(self, tell: Callable[[Step], None]) -> None:
        self.result = SelfTestResult()
        self._tell = tell
        self._since = system_clock.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Take a step that succeeds unless it raises; it appends what it saw to the list.

        Raises:
            BrokenOffError: it failed, and was reported.
        """
        seen: list[str] = []
        try:
            yield seen
        except RLMError as error:
            self.fail(name, error)
            raise BrokenOffError(name) from error
        self._add(name, ok=True, message="; ".join(seen))

    def fail(self, name: str, error: RLMError) -> None:
        """Report a step that `error` ended."""
        self.result.of_redis |= isinstance(error, StoreError)
        what = error.what if isinstance(error, StoreError) and error.what else str(error).partition("\n")[0]
        remedy = error.remedy if isinstance(error, StoreError) else ""
        if isinstance(error, BrokenOffByHandError):
            what, self.result.interrupted = "it was interrupted", True
        elif not remedy:
            remedy = "`rlm doctor` looks the installation over"
        self._add(name, ok=False, message=what, remedy=remedy)

    def judge(self, name: str, faults: Sequence[str], well: str, remedy: str) -> None:
        """Report a check: `well` if there are no faults, else the faults."""
        self._add(name, ok=not faults, message="; ".join(faults) or well, remedy=remedy if faults else "")

    def _add(self, name: str, *, ok: bool, message: str, remedy: str = "") -> None:
        now = system_clock.monotonic()
        step = Step(name, ok, message, round(now - self._since, 3), remedy)
        self._since = now
        self.result.steps.append(step)
        self._tell(step)
