"""Which processes can do a run, by the register in Redis; the CLI and the web both use these sentences.

A process that is missing from the register may still live: Redis may have just lost its entry.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from rlm.core.documents import Now, Rest
from rlm.core.run import State
from rlm.core.text import safe_line
from rlm.ledger.fitness import WRITES, Finding, unfit
from rlm.ledger.leases import ALONE_SECONDS, Standing
from rlm.ledger.processes import Process, Role, WorkerState
from rlm.ledger.reading.present import Present, present
from rlm.ledger.store import Store
from rlm.settings import Settings, differing

NO_SCHEDULER: Final = "no scheduler is heard from; `rlm up` or `rlm scheduler` starts one"
NO_LEADER: Final = "no scheduler leads: those heard from died, or cannot lead; see `rlm doctor`"
NO_SUPERVISOR: Final = "no supervisor is heard from to start workers: `rlm up` or `rlm supervisor` starts one"
BY_HAND: Final = (
    "`rlm start --wait` conducts a run without a scheduler, with workers of its own if no supervisor is alive"
)
#: Seconds within which a living scheduler takes a free lease; it looks four times a second.
TAKEOVER_SECONDS: Final = 2.0
_STRANGERS: Final = "every supervisor has another configuration, so its workers claim nothing: see `rlm doctor`"


def leader(store: Store, there: Present | None = None) -> Process | None:
    """Return the leading scheduler; if none leads or a command conducts, one that may lead next."""
    return next(iter((there or present(store)).candidates), None)


def no_scheduler(store: Store, there: Present | None = None) -> str:
    """Return why no scheduler conducts runs; empty if one leads or may be about to.

    The entry of a killed scheduler remains for some seconds; an expired lease that nobody takes shows its death sooner.
    """
    there = there or present(store)
    found, tenure = there.living(Role.SCHEDULER), there.tenure
    if not found:
        return NO_SCHEDULER
    others = any(tenure is None or process.id != tenure.owner for process in found)
    free_seconds = -tenure.left_seconds if tenure else 0.0
    return NO_LEADER if free_seconds > (TAKEOVER_SECONDS if others else 0.0) else ""


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


def other_configurations(leads: Process | None, processes: Iterable[Process]) -> dict[str, str]:
    """Return which `processes` have another configuration than the scheduler that `leads`: a sentence by file and host.

    Empty without a scheduler.
    """
    if leads is None or not leads.revision:
        return {}
    sentences = {}
    for process in (process for process in processes if _differs(process, leads.revision)):
        parts = " and ".join(differing(process.revision, leads.revision))
        by = f"{_file(leads)} of pid {leads.pid} on {leads.host}, by which runs go"
        subject = safe_line(f"{_file(process)} on {process.host}")
        sentences[subject] = safe_line(
            f"{_file(process)} of pid {process.pid} on {process.host} differs in {parts} from {by}"
        )
    return sentences


def kept_apart(store: Store, standing: Standing) -> str:
    """Return why a process with these settings may not lead, if other types or URLs are in force; else ''."""
    if not standing.apart_seconds:
        return ""
    here = f"the types or URLs of {_file_of(store.settings)} on {safe_line(store.settings.host_name)} differ from those"
    register = store.processes.register()
    living = (process for role in Role for process in register.living(role))
    if theirs := next((process for process in living if process.id == standing.other), None):
        used = f"in force, which are those of {_file(theirs)} of pid {theirs.pid} on {theirs.host}"
        return safe_line(f"{here} {used}: it may lead {ALONE_SECONDS:g} s after the last process with those has gone")
    return f"{here} that were in force until a moment ago: it may lead in {standing.apart_seconds:.0f} s"


def nobody_sends(
    store: Store, there: Present | None = None, *, revision: str = "", distrusted: Iterable[Finding] = ()
) -> str:
    """Return why no call would be made in the open or the next run; empty if no reason is known.

    `revision` is that of the open run, if it is known. If the `distrusted` findings say that Redis refuses writes,
    processes cannot announce themselves there, so no reason is known.
    """
    if any(finding.name == WRITES for finding in distrusted):
        return ""
    there = there or present(store)
    revision = revision or revision_in_force(store, there)
    workers = [process for process in there.living(Role.WORKER) if process.state != WorkerState.STOPPING]
    if any(process.revision == revision for process in workers):
        return ""
    supervisors = there.living(Role.SUPERVISOR)
    if not supervisors:
        return NO_SUPERVISOR
    return _STRANGERS if all(_differs(process, revision) for process in supervisors) else ""


def nobody_does(store: Store) -> str:
    """Return why a plan would come to nothing now: Redis is unfit, or nobody conducts or sends; else empty."""
    there = present(store)
    if why := unfit(store, there):
        return f"nothing is sent until Redis is fit: {why}"
    alone = "" if there.holder is not None else no_scheduler(store, there)
    return "; ".join(filter(None, [alone, nobody_sends(store, there), alone and BY_HAND]))


def lacking(found: Now) -> str:
    """Return the finding of `nobody_sends` in a status, until the run's forecast reports a shortage; else ''."""
    if isinstance(found, Rest):
        return found.lacking
    if found.state != State.RUNNING or not found.workers.wanted or (found.forecast and found.forecast.shortage):
        return ""
    return found.workers.lacking or ""


def _file(process: Process) -> str:
    return process.file or "the built-in configuration"


def _file_of(settings: Settings) -> str:
    return safe_line(str(settings.source or "the built-in configuration"))


def _differs(process: Process, revision: str) -> bool:
    """Return whether a process has another configuration; False if it does not say which it has."""
    return bool(process.revision) and process.revision != revision
