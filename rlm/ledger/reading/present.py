"""Who is heard of at one moment, and who took the lease: read once for all that a view says of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from rlm.ledger.leases import Tenure
from rlm.ledger.processes import Process, Role

if TYPE_CHECKING:
    from rlm.ledger.front import StoreFront


class Present(msgspec.Struct, frozen=True):
    """The whole `register`, as `Processes.register` has it, and who took the lease last, as `Leases.tenure` has it."""

    register: Mapping[Role, list[tuple[str, Process | None, float]]]
    tenure: Tenure | None

    def living(self, role: Role) -> list[Process]:
        """Return the processes of a role, oldest first."""
        alive = (one for _, one, _ in self.register[role] if one)
        return sorted(alive, key=lambda one: (one.started_at, one.id))

    @property
    def holder(self) -> str | None:
        """The process that holds a lease which has not run out, or None."""
        return self.tenure.owner if self.tenure and self.tenure.left_seconds > 0 else None

    @property
    def candidates(self) -> list[Process]:
        """The scheduler that leads; if none does at this moment, or a command conducts, all of which one may next."""
        schedulers = self.living(Role.SCHEDULER)
        return [one for one in schedulers if one.id == self.holder] or schedulers


def present(store: StoreFront) -> Present:
    """Look who is there, in three round trips."""
    return Present(store.processes.register(), store.leases.tenure())
