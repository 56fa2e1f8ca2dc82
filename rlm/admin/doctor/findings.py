"""What a check returns, and how checks are run so that one that fails does not stop the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.errors import StoreError, StoreUnreachableError
from rlm.ledger.fitness import Finding, Severity
from rlm.settings.secrets import known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def good(name: str, message: str) -> Finding:
    """Say that all is well with `name`."""
    return Finding(name, ok=True, message=message)


def warning(name: str, message: str, remedy: str) -> Finding:
    """Say that RLM works, with a risk that is worth knowing."""
    return Finding(name, ok=False, message=message, remedy=remedy, severity=Severity.WARNING)


def fault(name: str, message: str, remedy: str) -> Finding:
    """Say that something does not work."""
    return Finding(name, ok=False, message=message, remedy=remedy)


class Examination:
    """A round of checks.

    What a check raises becomes a finding, and the next one is made. What Redis refuses is told once, with all that
    could not be looked at for it; once Redis cannot be reached, what needs it is not even tried, for each would wait.
    """

    def __init__(self) -> None:
        self._refused: dict[str, tuple[StoreError, list[str]]] = {}
        self._away: StoreUnreachableError | None = None

    def make(self, name: str, check: Callable[[], Iterable[Finding]], *, needs_redis: bool = True) -> Iterator[Finding]:
        """Yield what a check finds, as far as it gets."""
        if needs_redis and self._away:
            self.note(name, self._away)
            return
        try:
            yield from check()
        except StoreError as error:
            self.note(name, error)
        except Exception as error:  # noqa: BLE001  # whatever it is, the other checks are to be made
            message = f"this could not be looked at: {type(error).__name__}: {known().mask(str(error))}"
            yield fault(name, message, "see what the others say; if it stays, it is a fault of RLM: report it")

    def note(self, name: str, error: StoreError) -> None:
        """Remember that Redis would not have a check made, or could not be reached for it."""
        if isinstance(error, StoreUnreachableError):
            self._away = error
        self._refused.setdefault(error.what, (error, []))[1].append(name)

    def troubles(self) -> Iterator[Finding]:
        """Tell of Redis what kept checks from being made."""
        for error, names in self._refused.values():
            missing = [name for name in names if name != "redis"]
            seen = f"; so not looked at: {', '.join(missing)}" if missing else ""
            remedy = error.remedy or "do what it says; docs/troubleshooting.md goes by symptom"
            yield fault("redis", f"{error.what}{seen}", remedy)
