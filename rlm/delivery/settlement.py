"""What the answer to a call means for its event."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from rlm.core.item import Reason
from rlm.core.retry import backoff_seconds
from rlm.core.trail import Heard
from rlm.delivery import Delivered, Outcome, Rejected, Throttled, Unreachable
from rlm.delivery.outcome import DEADLINE
from rlm.ledger.claims import Claim, Completion

if TYPE_CHECKING:
    from rlm.core.endpoint import Endpoint
    from rlm.ledger.events import Ledger
    from rlm.ledger.limiter import Admitted, Call
    from rlm.settings.model import RetrySettings

#: Writes what becomes of an event; returns False if its claim was lost meanwhile. Repeated while Redis is away.
Settlement: TypeAlias = "Callable[[], bool]"
#: What came of a call that did not deliver its event.
Undelivered: TypeAlias = Throttled | Rejected | Unreachable


class Answered(msgspec.Struct, frozen=True):
    """A call that left, or may have: its slot, and how it ended.

    `waited_seconds`: from its event's claim until it had its slot; `idle_seconds`: from its lane's last answer until
    then, 0 if there was none. `late`: it left late, and its slot is still to be stamped anew. `counts_from`: when its
    slot must count from, in monotonic seconds, if the API probably read the call later than the guard allows. `cut`:
    the run's deadline cut it. `stale`: its worker had lost its event by then, or may have, so it says nothing more.
    """

    endpoint: Endpoint
    slot: Admitted
    call: Call
    outcome: Outcome
    waited_seconds: float
    idle_seconds: float
    late: bool
    counts_from: float | None
    cut: bool
    stale: bool = False


def completion_of(claim: Claim, answered: Answered, delivered: Delivered) -> Completion:
    """Return what an event has that was delivered: it is settled with its lane's next turn."""
    waited = answered.waited_seconds, answered.idle_seconds
    return Completion(claim, answered.endpoint.name, delivered.seconds, f"HTTP {delivered.status}", *waited)


def settlement_of(
    ledger: Ledger, claim: Claim, answered: Answered, outcome: Undelivered, retry: RetrySettings, *, excused: bool
) -> Settlement:
    """Return how an event is to be settled whose call did not deliver it; `excused` as in `try_again`."""
    endpoint = answered.endpoint
    match outcome:
        case Throttled(status=status, seconds=seconds, retry_after=rest, kind=kind):
            asked = "" if rest is None else f", asked for a rest of {rest:.1f} s"
            return partial(ledger.throttle, claim, endpoint.name, Heard(f"HTTP {status}{asked}", seconds, kind))
        case Rejected(detail=detail, seconds=seconds, kind=kind):
            told, heard = f"{endpoint.name} answered {detail}", Heard(detail, seconds, kind)
            return partial(ledger.fail, claim, Reason.REJECTED, told, endpoint.name, heard)
        case Unreachable():
            if not answered.cut or answered.stale:
                return try_again(ledger, claim, endpoint, outcome, retry, excused=excused)
            heard = Heard(f"{outcome.detail}, cut by the run's deadline", outcome.seconds, DEADLINE)
            return partial(ledger.retry, claim, endpoint.name, backoff_seconds(claim.tries + 1), heard, cut=True)


def try_again(
    ledger: Ledger, claim: Claim, endpoint: Endpoint, outcome: Unreachable, retry: RetrySettings, *, excused: bool
) -> Settlement:
    """Return how an event is to be settled whose call failed: retried, left over, or dead once all runs are spent.

    If it is `excused`, for its host's trouble, it goes to another host at once and spends no attempt.
    """
    name, tries = endpoint.name, claim.tries + 1
    heard = Heard(outcome.detail, outcome.seconds, outcome.kind)
    if excused:
        return partial(ledger.pass_on, claim, name, heard)
    if tries < retry.max_attempts:
        return partial(ledger.retry, claim, name, backoff_seconds(tries), heard)
    if claim.runs + 1 < retry.max_runs:
        return partial(ledger.spend, claim, name, heard)
    detail = f"{tries} attempts in each of {retry.max_runs} runs failed, the last at {name}: {outcome.detail}"
    return partial(ledger.fail, claim, Reason.ATTEMPTS_SPENT, detail, name, heard)


def refuse_unsound(ledger: Ledger, claim: Claim) -> Settlement | None:
    """Return how an event is to be settled that cannot be sent as the ledger has it; None if it can."""
    try:
        claim.wallet_name.encode()
        msgspec.json.decode(claim.item)
    except UnicodeEncodeError:
        reason, detail = Reason.BAD_VALUE, "its wallet_name is no text"
    except (ValueError, RecursionError) as error:
        reason, detail = Reason.NOT_JSON, f"not JSON: {error}"
    else:
        return None
    return partial(ledger.fail, claim, reason, f"in the ledger it stands as what no item is: {detail}", "")
