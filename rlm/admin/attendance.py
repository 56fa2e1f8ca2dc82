"""Who is there to do a run, as far as Redis hears of them: found here, so that every face says the same.

That nobody is heard of does not mean that nobody lives: Redis may have forgotten them a moment ago.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rlm.admin.hosts import NO_HOST
from rlm.core.run import State
from rlm.ledger import Store
from rlm.ledger.fitness import unfit
from rlm.ledger.processes import Process, Role, WorkerState

NO_SCHEDULER: Final = "no scheduler is heard of; `rlm up` or `rlm scheduler` starts one"
NO_LEADER: Final = "no scheduler leads: those heard of died, or cannot; see `rlm doctor`"
NO_SUPERVISOR: Final = "no supervisor is heard of to start workers: `rlm up` or `rlm supervisor` starts one"
#: A live scheduler takes a free lease within this, seconds; it looks four times a second.
TAKEOVER_SECONDS: Final = 2.0
_STRANGERS: Final = "every supervisor has another configuration, so its workers claim nothing: see `rlm doctor`"


def leader(store: Store) -> Process | None:
    """Return the scheduler that leads; if none does at this moment, or a command conducts, the one that may next."""
    schedulers, holder = store.processes.alive(Role.SCHEDULER), store.leases.holder()
    return next((one for one in schedulers if one.id == holder), schedulers[0] if schedulers else None)


def no_scheduler(store: Store) -> str:
    """Return why no scheduler conducts runs; empty if one leads, or may be about to.

    Entries outlive a scheduler that was killed by some seconds; a lease that ran out and is not taken shows it sooner.
    """
    found, tenure = store.processes.alive(Role.SCHEDULER), store.leases.tenure()
    if not found:
        return NO_SCHEDULER
    others = any(tenure is None or one.id != tenure.owner for one in found)
    free_seconds = -tenure.left_seconds if tenure else 0.0
    return NO_LEADER if free_seconds > (TAKEOVER_SECONDS if others else 0.0) else ""


def ticks_every_seconds(store: Store) -> float:
    """Return how often runs start, by the scheduler that leads; by the settings if none says so."""
    leads = leader(store)
    return (leads.ticks_every if leads else 0.0) or store.settings.run.every_seconds


def revision_in_force(store: Store) -> str:
    """Return the revision of the open run, else of the scheduler, else of what was read here; others claim nothing."""
    if run := store.runs.current():
        return run.revision
    leads = leader(store)
    return leads.revision if leads else store.settings.revision


def led_otherwise(store: Store) -> str:
    """Return that the scheduler has another configuration than this process, so that what this one has counts later."""
    leads = leader(store)
    if leads is None or not _differs(leads, store.settings.revision):
        return ""
    return (
        f"the scheduler {leads.id} has another configuration than was read here, and runs go by that until its restart"
    )


def nobody_sends(store: Store) -> str:
    """Return why no call of a run would be made, the open one or the next; empty if nothing speaks against it."""
    revision = revision_in_force(store)
    workers = [one for one in store.processes.alive(Role.WORKER) if one.state != WorkerState.STOPPING]
    if any(one.revision == revision for one in workers):
        return ""
    supervisors = store.processes.alive(Role.SUPERVISOR)
    if not supervisors:
        return NO_SUPERVISOR
    if all(_differs(one, revision) for one in supervisors):
        return _STRANGERS
    drains = store.hosts.drains()
    return NO_HOST if all(one.host in drains for one in supervisors) else ""


def nobody_does(store: Store) -> str:
    """Return why nothing comes of a plan as things are: Redis is not fit, or nobody conducts, or sends; else empty."""
    if why := unfit(store):
        return f"nothing is sent until Redis is fit: {why}"
    by_hand = store.leases.holder() is not None
    return "; ".join(filter(None, ["" if by_hand else no_scheduler(store), nobody_sends(store)]))


def lacking(found: Mapping[str, Any]) -> str:
    """Return what `nobody_sends` found for a status, until the conductor of its run says what is amiss; else ''.

    Of a Redis that is not fit nothing else is known: nobody can be heard of there.
    """
    if found.get("unfit"):
        return ""
    if found["state"] != State.RUNNING:
        return str(found.get("lacking") or "")
    team, known = found["workers"], (found.get("forecast") or {}).get("shortage")
    return str(team.get("lacking") or "") if team["wanted"] and not known else ""


def _differs(process: Process, revision: str) -> bool:
    """Return whether a process has another configuration; one that does not say has none that is known."""
    return bool(process.revision) and process.revision != revision
