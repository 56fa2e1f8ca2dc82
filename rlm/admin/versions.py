"""Which processes are behind: of an older version than the newest that works here, or of another configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rlm import SCHEMA
from rlm.ledger.processes import Role

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rlm.ledger import Store
    from rlm.ledger.processes import Process

#: How to bring a process up to date.
_REMEDIES = {
    Role.SCHEDULER: "restart the scheduler: an open run goes to a standby, without one between two runs",
    Role.SUPERVISOR: "restart the supervisor: its workers finish their calls first",
    Role.WORKER: "restart the worker; one that a supervisor started, with that",
}


@dataclass(frozen=True, slots=True)
class Behind:
    """A process that is behind, and why."""

    role: Role
    process: Process
    why: str

    @property
    def remedy(self) -> str:
        """What brings it up to date without a loss."""
        return _REMEDIES[self.role]


def behind(living: Mapping[Role, Sequence[Process]], leader: str | None) -> list[Behind]:
    """Return the `living` processes that are behind; that of the id `leader` has the configuration that counts."""
    every = [(role, one) for role, processes in living.items() for one in processes]
    newest = max((one for _, one in every), key=_age, default=None)
    conductor = next((one for _, one in every if one.id == leader), None)
    found = []
    for role, one in every:
        if newest is not None and _age(one) < _age(newest):
            found.append(Behind(role, one, f"{_named(one, newest)}, where {called(newest.version)} works"))
        elif conductor is not None and one.revision != conductor.revision:
            found.append(Behind(role, one, f"another configuration than that of {conductor.id}, which leads"))
    return found


def newer_than_this(store: Store) -> str:
    """Return the version that has worked here with a schema above this command's, empty if none has."""
    schema, version = store.leases.newest()
    return version if schema > SCHEMA else ""


def _age(process: Process) -> tuple[int, list[int]]:
    """Return what sorts versions by age."""
    return process.schema, _numbers(process.version)


def _numbers(version: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d{1,9}", version)]


def called(version: str) -> str:
    """Return what a version is called, of which the oldest do not say it."""
    return f"rlm {version}" if version else "an older rlm"


def _named(process: Process, newest: Process) -> str:
    return f"an earlier {called(newest.version)}" if process.version == newest.version else called(process.version)
