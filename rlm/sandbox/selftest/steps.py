"""The steps of a self-test, each told as soon as it is checked, and what came of them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.core.errors import RLMError, StoreError
from rlm.sandbox.demo.play import BrokenOffByHandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was checked: what was seen, how long it took, and what to do where it is not well."""

    name: str
    ok: bool
    message: str
    seconds: float
    remedy: str = ""


@dataclass(slots=True)
class Outcome:
    """What came of a self-test. `log` is the end of its processes' log where something failed.

    `of_redis` tells that it was Redis that failed, or is not fit; `interrupted` that a signal ended it.
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
        """Whether every step was well."""
        return all(step.ok for step in self.steps)


class BrokenOffError(RLMError):
    """Raised when a step failed such that the next ones make no sense; it has been told."""


class Steps:
    """Tells each step and keeps it."""

    def __init__(self, outcome: Outcome, tell: Callable[[Step], None]) -> None:
        self._outcome = outcome
        self._tell = tell
        self._since = system_clock.monotonic()

    @contextmanager
    def step(self, name: str) -> Iterator[list[str]]:
        """Take a step that is well unless it raises; what it sees it appends to the list.

        Raises:
            BrokenOffError: it was not well, and is told.
        """
        seen: list[str] = []
        try:
            yield seen
        except RLMError as error:
            self.fail(name, error)
            raise BrokenOffError(name) from error
        self._add(name, ok=True, message="; ".join(seen))

    def fail(self, name: str, error: RLMError) -> None:
        """Tell of what `error` put an end to."""
        self._outcome.of_redis |= isinstance(error, StoreError)
        what = error.what if isinstance(error, StoreError) and error.what else str(error).partition("\n")[0]
        remedy = error.remedy if isinstance(error, StoreError) else ""
        if isinstance(error, BrokenOffByHandError):
            what, self._outcome.interrupted = "it was interrupted", True
        elif not remedy:
            remedy = "`rlm doctor` looks the installation over"
        self._add(name, ok=False, message=what, remedy=remedy)

    def judge(self, name: str, faults: Sequence[str], well: str, remedy: str) -> None:
        """Tell of something whether it is well, in the words of `well`, or what is wrong with it."""
        self._add(name, ok=not faults, message="; ".join(faults) or well, remedy=remedy if faults else "")

    def _add(self, name: str, *, ok: bool, message: str, remedy: str = "") -> None:
        now = system_clock.monotonic()
        step = Step(name, ok, message, round(now - self._since, 3), remedy)
        self._since = now
        self._outcome.steps.append(step)
        self._tell(step)
