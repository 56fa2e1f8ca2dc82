"""What a check returns, and how checks are run so that one that fails does not stop the others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.errors import StoreError, StoreUnreachableError
from rlm.ledger.fitness import Finding, Severity
from rlm.settings.secrets import known

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def good(name: str, message: str) -> Finding:
    """Return a finding that all is well with `name`."""
    return Finding(name, ok=True, message=message)


def warning(name: str, message: str, remedy: str) -> Finding:
    """Return a finding that RLM works, but at a risk."""
    return Finding(name, ok=False, message=message, remedy=remedy, severity=Severity.WARNING)


def fault(name: str, message: str, remedy: str) -> Finding:
    """Return a finding that something does not work."""
    return Finding(name, ok=False, message=message, remedy=remedy)


class Examination:
    """A round of checks.

    An error in a check becomes a finding, and the next check is made. What Redis refuses is one finding, with all
    checks that failed for it. Once Redis is unreachable, checks that need it are skipped, because each would wait.
    """

    def __init__(self) -> None:
        self._refused: dict[str, tuple[StoreError, list[str]]] = {}
        self._away: StoreUnreachableError | None = None

    def make(self, name: str, check: Callable[[], Iterable[Finding]], *, needs_redis: bool = True) -> Iterator[Finding]:
        """Yield the findings of a check, up to its first error."""
        if needs_redis and self._away:
            self.note(name, self._away)
            return
        try:
            yield from check()
        except StoreError as error:
            self.note(name, error)
        except Exception as error:  # noqa: BLE001  # the other checks must be made
            message = f"this could not be looked at: {type(error).__name__}: {known().mask(str(error))}"
            yield fault(name, message, "see what the others say; if it stays, it is a fault of RLM: report it")

    def note(self, name: str, error: StoreError) -> None:
        """Remember that a check failed because Redis refused it or was unreachable."""
        if isinstance(error, StoreUnreachableError):
            self._away = error
        self._refused.setdefault(error.what, (error, []))[1].append(name)

    def troubles(self) -> Iterator[Finding]:
        """Report why checks could not be made in Redis."""
        for error, names in self._refused.values():
            missing = [name for name in names if name != "redis"]
            seen = f"; so not looked at: {', '.join(missing)}" if missing else ""
            remedy = error.remedy or "do what it says; docs/troubleshooting.md goes by symptom"
            yield fault("redis", f"{error.what}{seen}", remedy)
