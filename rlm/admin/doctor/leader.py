"""One leader: the lease held against the register of schedulers.

Two leaders there cannot be, for there is one lease; but none there can be, and one that holds it and is dead.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from rlm.admin.doctor.findings import good, warning
from rlm.core.clock import system_clock
from rlm.core.text import span
from rlm.ledger.processes import Role

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding
    from rlm.ledger.leases import Tenure
    from rlm.ledger.processes import Process

#: A scheduler that lives takes a lease that is free within this, seconds; it looks four times a second.
TAKEOVER_SECONDS = 2.0
#: A scheduler that lives prolongs its lease within this, seconds; it does so twice a second.
PROLONG_SECONDS = 1.0

_REMEDY = "look whether it lives (ps, its log) and restart it; a second scheduler takes over by itself within 5 s"


def check_leader(store: Store) -> Iterator[Finding]:
    """Hold the lease against the register: who leads, who stands by, or why nobody does."""
    schedulers, tenure = store.processes.alive(Role.SCHEDULER), store.leases.tenure()
    if tenure is not None and tenure.left_seconds > 0:
        yield _held(store, tenure, schedulers)
    elif not schedulers:
        yield good("leader", "nobody leads, as no scheduler runs")
    else:
        yield _vacant(tenure, schedulers)


def _held(store: Store, tenure: Tenure, schedulers: list[Process]) -> Finding:
    others = [one.id for one in schedulers if one.id != tenure.owner]
    if has_died(tenure.owner) and not _is_prolonged(store, tenure):
        message = f"{tenure.owner} holds the lease for another {span(tenure.left_seconds)}, and is dead"
        if others:
            return warning("leader", message, f"nothing: {others[0]} takes it then")
        return warning("leader", message, "`rlm up` or `rlm scheduler` starts another")
    if not others:
        return good("leader", f"{tenure.owner} leads; nobody would take over if it died")
    return good("leader", f"{tenure.owner} leads, {len(others)} would take over if it died")


def _is_prolonged(store: Store, tenure: Tenure) -> bool:
    """Tell whether somebody prolongs a lease: the holder lives where its process id cannot be seen, in a container."""
    system_clock.sleep(PROLONG_SECONDS)
    later = store.leases.tenure()
    return later is not None and later.left_seconds > tenure.left_seconds - PROLONG_SECONDS / 2


def _vacant(tenure: Tenure | None, schedulers: list[Process]) -> Finding:
    names = ", ".join(one.id for one in schedulers)
    if tenure is None:
        if system_clock.now() - max(one.started_at for one in schedulers) <= TAKEOVER_SECONDS:
            return good("leader", f"nobody leads yet, {names} has just come up")
        return warning("leader", f"nobody leads, though {names} is in the register", _REMEDY)
    vacant = -tenure.left_seconds
    if vacant <= TAKEOVER_SECONDS and any(one.id != tenure.owner for one in schedulers):
        return good("leader", f"the lease of {tenure.owner} ran out {span(vacant)} ago, another is about to take it")
    state = "is dead" if has_died(tenure.owner) else "does not answer"
    others = ", ".join(one.id for one in schedulers if one.id != tenure.owner)
    message = f"nobody leads: {tenure.owner} {state}, and its lease ran out {span(vacant)} ago"
    message += f"; nor does {others} take it" if others else ""
    return warning("leader", message, _REMEDY)


def has_died(owner: str) -> bool:
    """Return whether `host:pid:...` was a process of this host that is no more; of another host nothing can be told."""
    host, _, rest = owner.partition(":")
    pid = rest.partition(":")[0]
    if host != socket.gethostname() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        return False
    return False
