"""The checks of `rlm doctor`. Each returns one or several findings: what it saw, and the remedy if it is bad."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import TypeAlias, TypeVar

from msgspec.structs import replace

from rlm.admin.doctor import endpoints, host, ledger, processes, server
from rlm.core.clock import system_clock
from rlm.core.errors import StoreError, StoreRefusingError, StoreUnreachableError
from rlm.ledger import Store, open_store
from rlm.ledger.fitness import REFUSING, Finding, Severity, fault, warning
from rlm.ledger.server import server_there
from rlm.settings import Settings
from rlm.settings.secrets import known

_Seen = TypeVar("_Seen")
_SILENT = nullcontext()
#: Checks by the name of their findings, in the order of the report.
Checks: TypeAlias = Mapping[str, Callable[[_Seen], Finding | Iterable[Finding]]]

#: The checks that need no Redis.
HERE: Checks[Settings] = {
    "configuration": host.check_configuration,
    "files": host.check_files,
    "sentry": host.check_sentry,
    "reach": host.check_reach,
}
#: The checks of Redis, made after the check of its fitness.
IN_REDIS: Checks[Store] = {
    "advisories": server.check_advisories,
    "latency": server.check_latency,
    "clock": server.check_clock,
    "memory": server.check_memory,
    "keys": ledger.check_keys,
    "scheduler": processes.check_scheduler,
    "leader": processes.check_leader,
    "supervisor": processes.check_supervisor,
    "hosts": processes.check_hosts,
    "workers": processes.check_workers,
    "run": ledger.check_run,
    "last run": ledger.check_last_run,
    "orphans": ledger.check_orphans,
    "stuck": ledger.check_stuck,
    "types": ledger.check_unknown_types,
    "endpoints": endpoints.check_endpoints,
    "times": endpoints.check_times,
    "staging": ledger.check_staging,
    "books": ledger.check_books,
}
#: Those of them that depend on what living processes write to Redis.
SIGNS = frozenset({"scheduler", "leader", "supervisor", "hosts", "workers", "run", "orphans"})


def examine(
    settings: Settings, *, allow_volatile: bool, opening: AbstractContextManager[None] = _SILENT
) -> Iterator[Finding]:
    """Make all checks, one after the other, whatever they find; `opening` is entered while the store is opened."""
    here = Examination(opening)
    yield from here.make(HERE, settings)
    yield from here.make_in_redis(IN_REDIS, settings, allow_volatile=allow_volatile)


class Examination:
    """A round of checks.

    An error in a check becomes a finding, and the next check is made. Checks that fail for the same refusal of Redis
    share one finding. Once Redis is unreachable, no further check is made, because each would wait.
    """

    def __init__(self, opening: AbstractContextManager[None] = _SILENT) -> None:
        self._opening = opening
        self._refused: dict[str, tuple[StoreError, list[str]]] = {}
        self._away: StoreUnreachableError | None = None

    def make(self, checks: Checks[_Seen], seen: _Seen) -> Iterator[Finding]:
        """Yield the findings of each check, up to its first error."""
        for name, check in checks.items():
            if self._away:
                self._note(name, self._away)
                continue
            try:
                found = check(seen)
                for one in [found] if isinstance(found, Finding) else found:
                    yield replace(one, name=f"{name}.{one.name}" if one.name else name)
            except StoreError as error:
                self._note(name, error)
            except Exception as error:  # noqa: BLE001  # the other checks must be made
                message = f"this could not be checked: {type(error).__name__}: {known().mask(str(error))}"
                remedy = "see the other findings; if this one stays, it is a fault of RLM: report it"
                yield replace(fault(message, remedy), name=name)

    def make_in_redis(self, checks: Checks[Store], settings: Settings, *, allow_volatile: bool) -> Iterator[Finding]:
        """Yield whether Redis is fit, the findings of the checks, and why some could not be made."""
        fit = partial(server.check_redis, allow_volatile=allow_volatile)
        try:
            with ExitStack() as stack:
                began = system_clock.monotonic()
                with self._opening:
                    store = stack.enter_context(open_store(settings, server_there(settings)))
                yield from server.check_wait(system_clock.monotonic() - began)
                found = list(self.make({"redis": fit}, store))
                yield from found
                silent = SIGNS & checks.keys() if any(_is_refusing(one) for one in found) else frozenset()
                yield from self.make({name: one for name, one in checks.items() if name not in silent}, store)
            if silent:
                message = "while Redis takes no writes, no process can report there that it is alive"
                unseen = ", ".join(name for name in checks if name in silent)
                yield warning(f"{message}; so not checked: {unseen}", "repair Redis first", "processes")
        except StoreError as error:  # the embedded server does not run
            self._note("redis", error)
        for refusal, names in self._refused.values():
            missing = [name for name in names if name != "redis"]
            seen = f"; so not checked: {', '.join(missing)}" if missing else ""
            remedy = refusal.remedy or "do what it says; docs/operations.md is ordered by symptom"
            yield replace(fault(f"{refusal.what}{seen}", remedy), name="redis")

    def _note(self, name: str, error: StoreError) -> None:
        """Note that a check failed because Redis refused it or was unreachable."""
        if isinstance(error, StoreUnreachableError) and not isinstance(error, StoreRefusingError):
            self._away = error
        self._refused.setdefault(error.what, (error, []))[1].append(name)


def _is_refusing(found: Finding) -> bool:
    """Return whether a finding says that Redis refuses writes."""
    name = found.name.removeprefix("redis.")
    return not found.ok and found.severity is Severity.ERROR and name in REFUSING
