"""The checks of `rlm doctor`. Each yields findings: what it saw, and the remedy if it is bad."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from typing import Final, NamedTuple

from msgspec.structs import replace

from rlm.admin.doctor import ledger, processes
from rlm.admin.report import status
from rlm.core.clock import system_clock
from rlm.core.documents import Condition, Record
from rlm.core.errors import StoreError, StoreGarbledError, StoreUnreachableError
from rlm.ledger.fitness import Finding, check_fitness, fault, good, warning
from rlm.ledger.store import Store
from rlm.settings import Settings
from rlm.settings.secrets import known

#: Warn if the clocks of two hosts differ by more than this, seconds.
CLOCK_SECONDS = 1.0


def check_configuration(settings: Settings) -> Finding:
    """Report the source and size of the configuration."""
    source = f"file {settings.source}" if settings.source else "the built-in defaults, whose endpoints are examples"
    types, number = len(settings.event_types), len(settings.endpoints)
    return good(f"{source}; {types} types, {number} endpoints, revision {settings.revision}", "configuration")


def check_clock(store: Store) -> Iterator[Finding]:
    """Compare the clock of Redis with this host's, excluding the time of the round trip."""
    asked_at = system_clock.now()
    redis_now = store.now()
    ahead = redis_now - min(max(redis_now, asked_at), system_clock.now())
    if abs(ahead) <= CLOCK_SECONDS:
        yield good(f"this host and Redis agree to {abs(ahead):.1f} s")
    else:
        message = f"the clock of Redis is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this host's"
        yield warning(message, "synchronise both by NTP (chrony, systemd-timesyncd)")


def check_endpoints(store: Store) -> Iterator[Finding]:
    """Name the endpoints and budgets that get no call, or one at a time."""
    of_all = (condition for condition in _conditions(store))
    shut = [condition for condition in of_all if condition.code.startswith(("endpoint_", "redis_doubted"))]
    yield from (warning(condition.sentence, condition.remedy) for condition in shut)
    if not shut:
        yield good("each may be called as its limit allows")


#: The checks that need a Redis that is fit, by name, in the order of the report.
CHECKS: Final[Mapping[str, Callable[[Store], Iterable[Finding]]]] = {
    "clock": check_clock,
    "keys": ledger.check_keys,
    "scheduler": processes.check_scheduler,
    "supervisor": processes.check_supervisor,
    "workers": processes.check_workers,
    "run": ledger.check_run,
    "endpoints": check_endpoints,
    "books": ledger.check_books,
}


class Examined(NamedTuple):
    """What `rlm doctor` found: a finding or more of each check, and the conditions that a status shows as well."""

    findings: tuple[Finding, ...]
    conditions: tuple[Condition, ...]


def examine(settings: Settings, *, allow_volatile: bool) -> Examined:
    """Make all checks, one after the other, whatever they find.

    Without a Redis that is fit, the others would only show what follows from that.
    """
    findings, conditions = [check_configuration(settings)], tuple[Condition, ...]()
    try:
        with ExitStack() as stack:
            store = stack.enter_context(Store(settings))
            fitness = check_fitness(store, allow_volatile=allow_volatile)
            for finding in fitness:
                where = f"reached at {store.client.address}: " if finding.name == "version" else ""
                findings.append(replace(finding, name=f"redis.{finding.name}", message=f"{where}{finding.message}"))
            if not any(finding.is_fault for finding in fitness):
                store.require_schema()
                for name in CHECKS:
                    findings += _made(name, store)
            with suppress(StoreGarbledError):  # the check of keys names it
                conditions = _conditions(store)
    except StoreError as error:
        remedy = error.remedy or "do what it says; docs/operations.md is ordered by symptom"
        findings.append(fault(error.what, remedy, "redis"))
    return Examined(tuple(findings), conditions)


def _made(name: str, store: Store) -> list[Finding]:
    """Return the findings of a check. An error in it is a finding, and the next check is made."""
    try:
        return [replace(finding, name=name) for finding in CHECKS[name](store)]
    except StoreUnreachableError:
        raise
    except Exception as error:  # noqa: BLE001  # the other checks must be made
        message = f"this could not be checked: {type(error).__name__}: {known().mask(str(error))}"
        return [fault(message, "see the other findings; if this one stays, it is a fault of RLM: report it", name)]


def _conditions(store: Store) -> tuple[Condition, ...]:
    found = status(store, None, measured=False)
    return () if isinstance(found, Record) else found.conditions
