"""Who is there: the processes heard from at one moment and the holder of the lease; and how Redis itself is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.core.documents import ServerState
from rlm.ledger.leases import Tenure
from rlm.ledger.processes import Process, Register, Role

if TYPE_CHECKING:
    from rlm.ledger.store import Store


class Present(Register, frozen=True):
    """The register, and who took the lease last, as from `Leases.tenure`."""

    tenure: Tenure | None

    @property
    def holder(self) -> str | None:
        """The process that holds an unexpired lease, or None."""
        return self.tenure.owner if self.tenure and self.tenure.left_seconds > 0 else None

    @property
    def deputy(self) -> str | None:
        """The supervisor that speaks for a leader while there is none: the oldest."""
        supervisors = self.living(Role.SUPERVISOR)
        return supervisors[0].id if supervisors and self.holder is None else None

    @property
    def candidates(self) -> list[Process]:
        """The leading scheduler; if none leads, or a command conducts, all schedulers, because any may be next."""
        schedulers = self.living(Role.SCHEDULER)
        return [each for each in schedulers if each.id == self.holder] or schedulers


def present(store: Store) -> Present:
    """Read who is there, in three round trips."""
    return Present(store.processes.register().entries, store.leases.tenure())


def server_state(store: Store) -> ServerState:
    """Read how quickly Redis answers now and how much memory it uses."""
    began = system_clock.monotonic()
    store.ping()
    milliseconds = round((system_clock.monotonic() - began) * 1000, 1)
    memory = store.client.info("memory")
    used, most = (int(memory.get(name, 0)) for name in ("used_memory", "maxmemory"))
    return ServerState(ping_ms=milliseconds, used_bytes=used, max_bytes=most)
