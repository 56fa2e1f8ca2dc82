"""A run started by the scheduler, as an operator orders it.

Of `rlm start --wait` a run waits for what this imports, so it is little.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.core.clock import system_clock
from rlm.core.errors import NobodyConductsError, RunUnderWayError, StoreUnfitError
from rlm.core.run import State
from rlm.ledger.processes import Role

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlm.ledger.front import StoreFront

#: Time for a scheduler to take up a request, or for a conductor to answer a cancel, seconds.
ANSWER_SECONDS = 5.0
#: Time between two looks for that, seconds.
POLL_SECONDS = 0.05


def ask_scheduler(store: StoreFront, *, patient: bool, is_stopped: Callable[[], bool] = lambda: False) -> str | None:
    """Ask the scheduler for a run; return the id of the one started, None if nobody takes the request up in time.

    If no scheduler is known, only a `patient` caller waits for one that may be starting. A caller that `is_stopped`
    waits no longer.

    Raises:
        RunUnderWayError: one is open; the message names it.
    """
    if not patient and store.leases.holder() is None and not store.processes.alive(Role.SCHEDULER):
        return None
    request = store.schedule.request()
    until = system_clock.monotonic() + ANSWER_SECONDS
    while (reply := store.schedule.reply(request)) is None:
        if (system_clock.monotonic() > until or is_stopped()) and store.schedule.withdraw(request):
            return None
        system_clock.sleep(POLL_SECONDS)
    if "open" in reply:
        raise RunUnderWayError(f"Run {reply['open']} is under way; see `rlm status`.")
    return str(reply["run_id"])


def started(store: StoreFront, run_id: str | None) -> dict[str, Any]:
    """Return what `rlm start` prints.

    Raises:
        StoreUnfitError: Redis is not fit, so no scheduler took the run up.
        NobodyConductsError: none took it up although it is.
    """
    from rlm.ledger.fitness import unfit  # noqa: PLC0415  # a run that starts does not need it

    if run_id is None and (why := unfit(store)):
        raise StoreUnfitError(f"no run starts until Redis is fit: {why}")
    if run_id is None:
        raise NobodyConductsError(
            "No scheduler took the run up. Start one with `rlm up` or `rlm scheduler`, or conduct it here: "
            "`rlm start --wait`."
        )
    return {"run_id": run_id, "state": State.DRAINING}
