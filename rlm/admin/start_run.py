"""A run that an operator orders from the scheduler. A run of `rlm start --wait` waits for the imports: they are few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.clock import system_clock
from rlm.core.documents import Started
from rlm.core.errors import RLMError, RunError, StoreUnfitError
from rlm.core.run import State

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlm.ledger.store import Store

#: Seconds for a scheduler to accept a request, or for a conductor to answer a cancel.
ANSWER_SECONDS = 5.0
#: Seconds between two looks for the answer.
POLL_SECONDS = 0.05


def ask_scheduler(store: Store, *, patient: bool, is_stopped: Callable[[], bool] = lambda: False) -> str | None:
    """Request a run from the scheduler; return its id, or None if nobody accepts the request in time.

    If no scheduler is known, only a `patient` caller waits, for one that may be starting. A caller that `is_stopped`
    stops waiting.

    Raises:
        RunError: a run is open; the message names it.
    """
    from rlm.ledger.processes import Role  # noqa: PLC0415  # `rlm start --help` does without Redis's client

    if not patient and store.leases.read().holder is None and not store.processes.register().living(Role.SCHEDULER):
        return None
    request = store.schedule.request()
    until = system_clock.monotonic() + ANSWER_SECONDS
    while (reply := store.schedule.reply(request)) is None:
        if system_clock.monotonic() > until or is_stopped():
            reply = store.schedule.withdraw(request)
            break
        system_clock.sleep(POLL_SECONDS)
    else:
        store.schedule.withdraw(request)  # nobody needs the answer any more
    if reply and reply.open:
        raise RunError(f"Run {reply.open} is under way; see `rlm status`.")
    return reply.run_id if reply else None


def started(store: Store, run_id: str | None) -> Started:
    """Return what `rlm start` prints.

    Raises:
        StoreUnfitError: Redis is unfit, so no scheduler started the run.
        RLMError: no scheduler started it although Redis is fit.
    """
    from rlm.admin.conditions import look  # noqa: PLC0415  # a run that starts does not need it

    if run_id is None and (flaws := look(store).unfit):
        raise StoreUnfitError("no run starts until Redis is fit", "; ".join(map(str, flaws)))
    if run_id is None:
        raise RLMError(
            "No scheduler took the run up. Start one with `rlm up` or `rlm scheduler`, or conduct it here: "
            "`rlm start --wait`."
        )
    return Started(run_id=run_id, state=State.DRAINING)
