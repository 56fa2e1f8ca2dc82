"""Who is there, by the register in Redis: who leads, with which configuration, and the hosts.

A process that is missing from the register may still live: Redis may have just lost its entry.
"""

from __future__ import annotations

from typing import Final

from rlm.core.text import safe_line
from rlm.ledger.leases import Present, Standing, present
from rlm.ledger.processes import Process
from rlm.ledger.store import Store

#: Seconds within which a living scheduler takes a free lease; it looks four times a second.
TAKEOVER_SECONDS: Final = 2.0


def leader(store: Store, there: Present | None = None) -> Process | None:
    """Return the leading scheduler; if none leads or a command conducts, one that may lead next."""
    return next(iter((there or present(store)).candidates), None)


def ticks_every_seconds(store: Store, there: Present | None = None) -> float:
    """Return the seconds between two runs, by the leading scheduler; by the settings if it does not say."""
    leads = leader(store, there)
    return (leads.ticks_every if leads else 0.0) or store.settings.run.every_seconds


def revision_in_force(store: Store, there: Present | None = None) -> str:
    """Return the revision of the open run, else of the scheduler, else of the settings; others claim nothing."""
    if run := store.runs.current():
        return run.revision
    leads = leader(store, there)
    return leads.revision if leads else store.settings.revision


def kept_apart(store: Store, standing: Standing) -> str:
    """Return why a process with these settings may not lead, if other types or URLs are in force; else ''."""
    if not standing.apart_seconds:
        return ""
    file, host = store.settings.source or "the built-in configuration", store.settings.host_name
    theirs = f" of {standing.other}" if standing.other else ""
    return safe_line(
        f"the types or URLs of {file} on {host} differ from those in force{theirs}: it may lead "
        f"{standing.apart_seconds:.0f} s after the last process with those has gone"
    )
