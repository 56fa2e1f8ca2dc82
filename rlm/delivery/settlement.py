"""What the answer to a call changes: the window and the health of its endpoint, and the state of its event."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import msgspec

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.item import Reason
from rlm.core.retry import backoff_seconds
from rlm.core.trail import Heard
from rlm.core.window import FAILING
from rlm.delivery import TOO_MANY_REQUESTS, Delivered, Rejected, Throttled, Unreachable
from rlm.delivery.outcome import DEADLINE
from rlm.ledger.breaker import ALARMING, FIRST_REST_SECONDS, TooHigh
from rlm.ledger.claims import Completion

if TYPE_CHECKING:
    from collections.abc import Callable

    from rlm.core.endpoint import Endpoint
    from rlm.delivery import Outcome
    from rlm.ledger.breaker import Breaker
    from rlm.ledger.claims import Claim
    from rlm.ledger.events import Ledger
    from rlm.ledger.limiter import Admitted, Call
    from rlm.ledger.windows import Windows
    from rlm.settings.model import RetrySettings

#: Writes what becomes of an event; returns False if its claim was lost meanwhile. Repeated while Redis is away.
Settlement: TypeAlias = "Callable[[], bool]"


#: What is said besides of an endpoint that refuses all it is sent.
_REFUSED_MEANWHILE = "; what waits is kept, and `rlm failed retry` sends what it refused again"

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Answered:
    """A call that left, or may have: its slot, and how it ended.

    `waited_seconds`: from its event's claim until it had its slot; `idle_seconds`: from its lane's last answer until
    then, 0 if there was none. `late`: it left late, and its slot is still to be stamped anew. `counts_from`: when its
    slot must count from, in monotonic seconds, if the API probably read the call later than the guard allows. `cut`:
    the run's deadline cut it.
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


# -- the endpoint


class Rests:
    """Logs that an endpoint asked for a rest, once for all calls of a worker that were under way when it began."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}

    def tell(self, endpoint: Endpoint, seconds: float, *, others: bool) -> None:
        """Log a rest of `seconds`; `others`: its type has other endpoints."""
        now = system_clock.monotonic()
        if now < self._until.get(endpoint.name, now):
            return
        self._until[endpoint.name] = now + seconds
        log.info(
            "%s asked for a rest of %.1f s; %s",
            endpoint.name,
            seconds,
            "the others take its share" if others else "its events wait until it is over",
            extra={"action": "rest_endpoint", "endpoint": endpoint.name},
        )


def report(windows: Windows, breaker: Breaker, answered: Answered, rests: Rests, *, others: bool) -> None:
    """Keep the window and the health of the endpoint true. May be repeated: the second time changes little.

    `others`: the event's type has other endpoints.
    """
    endpoint, outcome = answered.endpoint, answered.outcome
    unanswered = isinstance(outcome, Unreachable) and outcome.seconds is None
    if answered.late or unanswered:
        windows.block(endpoint, answered.slot, answered.call, left_late=answered.late)
    elif answered.counts_from is not None:
        ago_seconds = system_clock.monotonic() - answered.counts_from
        windows.restamp(endpoint, answered.slot, answered.call, ago_seconds)
    match outcome:
        case Throttled():
            rests.tell(endpoint, _rest(breaker, endpoint, outcome, answered.slot), others=others)
        case Unreachable() if not answered.cut:
            note_failure(breaker, endpoint, outcome)
        case Rejected(of_endpoint=True):
            note_failure(breaker, endpoint, outcome)
        case Delivered() | Rejected() if answered.slot.suspect:
            if breaker.reopen(endpoint):
                log.info(
                    "%s answers again, and is called as its limit allows",
                    endpoint.name,
                    extra={"action": "reopen_endpoint", "endpoint": endpoint.name},
                )


def _rest(breaker: Breaker, endpoint: Endpoint, throttled: Throttled, slot: Admitted) -> float:
    """Rest an endpoint as it asked; return for how long, seconds.

    If its limit is set too high, that is logged, once over all workers.
    """
    asked = throttled.retry_after
    seconds = endpoint.limit.longest_seconds if asked is None else asked
    refusals = None
    if throttled.status == TOO_MANY_REQUESTS:
        refusals = breaker.refuse(endpoint, seconds, slot)
    else:
        breaker.rest(endpoint, seconds)
    if refusals is not None and refusals.calls == ALARMING:
        found = TooHigh(endpoint, refusals)
        log.warning(
            "A limit is too high: %s; %s sets it",
            found.sentence,
            found.remedy,
            extra=alarm(
                Alarm.LIMIT_TOO_HIGH, "rest_endpoint", counts={"refused_call": refusals.nth}, endpoint=endpoint.name
            ),
        )
    return seconds


def note_failure(breaker: Breaker, endpoint: Endpoint, outcome: Unreachable | Rejected) -> None:
    """Count a failure of an endpoint. If that makes it rest, log it, which happens once over all workers."""
    failed = breaker.fail(endpoint, first_rest_seconds=FIRST_REST_SECONDS, failing=FAILING, why=outcome.kind)
    if failed.opened:
        # An answer may quote what it was sent, so only its status is logged.
        why = outcome.detail if outcome.seconds is None else outcome.detail.partition(":")[0]
        log.warning(
            "%s failed %d times in a row, the last time with: %s; it rests, first %.1f s, then twice as long each "
            "time, and is probed%s",
            endpoint.name,
            FAILING,
            why,
            failed.rest_seconds,
            _REFUSED_MEANWHILE if isinstance(outcome, Rejected) else "",
            extra=alarm(Alarm.BREAKER_OPEN, "rest_endpoint", counts={"failures": FAILING}, endpoint=endpoint.name),
        )


# -- the event


def settlement_of(ledger: Ledger, claim: Claim, answered: Answered, retry: RetrySettings) -> Settlement | Completion:
    """Return how an event is to be settled after its call. What is completed is settled with its lane's next turn."""
    endpoint = answered.endpoint
    match answered.outcome:
        case Delivered(status=status, seconds=seconds):
            waited = answered.waited_seconds, answered.idle_seconds
            return Completion(claim, endpoint.name, seconds, f"HTTP {status}", *waited)
        case Throttled(status=status, seconds=seconds, retry_after=rest, kind=kind):
            asked = "" if rest is None else f", asked for a rest of {rest:.1f} s"
            return partial(ledger.throttle, claim, endpoint.name, Heard(f"HTTP {status}{asked}", seconds, kind))
        case Rejected(detail=detail, seconds=seconds, kind=kind):
            told, heard = f"{endpoint.name} answered {detail}", Heard(detail, seconds, kind)
            return partial(ledger.fail, claim, Reason.REJECTED, told, endpoint.name, heard)
        case Unreachable() as outcome:
            if not answered.cut:
                return try_again(ledger, claim, endpoint, outcome, retry)
            heard = Heard(f"{outcome.detail}, cut by the run's deadline", outcome.seconds, DEADLINE)
            return partial(ledger.retry, claim, endpoint.name, backoff_seconds(claim.tries + 1), heard, cut=True)


def try_again(
    ledger: Ledger, claim: Claim, endpoint: Endpoint, outcome: Unreachable, retry: RetrySettings
) -> Settlement:
    """Return how an event is to be settled whose call failed: retried, left over, or dead once all runs are spent."""
    name, tries = endpoint.name, claim.tries + 1
    heard = Heard(outcome.detail, outcome.seconds, outcome.kind)
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
