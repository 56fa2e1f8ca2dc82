"""One event from claim to settlement: claimed, connected, a slot taken, sent, answered, settled."""

from __future__ import annotations

import itertools
import logging
import random
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.endpoint import FIRST_BACKOFF_SECONDS, in_force
from rlm.core.errors import StoreError
from rlm.core.event import Reason, type_of
from rlm.core.expected import call_seconds, needed_seconds
from rlm.core.failpoints import crash_point
from rlm.core.health import FAILING
from rlm.core.trail import Heard
from rlm.delivery import (
    TOO_MANY_REQUESTS,
    Delivered,
    Outcome,
    Rejected,
    Request,
    Throttled,
    Unreachable,
    UnreachableError,
    kinds,
)
from rlm.ledger.breaker import ALARMING, TooHigh
from rlm.ledger.claims import Claim, ClaimCheck, ClaimTerms, Unclaimed
from rlm.ledger.limiter import Admitted, Call, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rlm.core.endpoint import Endpoint, EventType
    from rlm.delivery import Connection, Dispatcher
    from rlm.ledger import Store
    from rlm.settings import Settings

#: The share of the guard in which a call must have left after its slot was taken; the rest is for its way.
LEAVING_SHARE = 0.4
#: So long a slot is asked for again whose answer came too late to use it, seconds.
LEAVING_TRIES_SECONDS = 1.0
#: A lease lasts one call: its time-out and this many seconds, half of them for what comes before it, half to settle it.
LEASE_SLACK_SECONDS = 2.0
#: How long an endpoint that keeps failing is rested for the first time, seconds.
FIRST_REST_SECONDS = 1.0

#: What is said besides of an endpoint that refuses all it is sent.
_REFUSED_MEANWHILE = "; what waits is kept, and `rlm failed retry` sends what it refused again"
_SETTLE_AGAIN_SECONDS = 0.05
#: A lane rests for so long whose worker carries another event alone, or has to end others first, seconds.
_ALONE_SECONDS = 0.25

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Sent:
    """A call that left, or may have: how it ended, and the slot it used.

    `late`: its slot is still to be stamped anew, for it left late. `counts_from`: from when its slot must count, in
    monotonic seconds, where its answer was so late that the API is likely to have read it after the guard.
    `cut`: the run's deadline cut it. `waited_seconds`: from its event's claim until it had its slot; `idle_seconds`:
    from its lane's last answer until then, 0 where there was none.
    """

    endpoint: Endpoint
    slot: Admitted
    call: Call
    outcome: Outcome
    late: bool
    counts_from: float | None
    cut: bool
    waited_seconds: float
    idle_seconds: float


class Lanes:
    """The lanes of one worker process: `carry` is called by as many threads as it has lanes."""

    def __init__(self, store: Store, settings: Settings, dispatcher: Dispatcher, worker_id: str) -> None:
        self._store = store
        self._settings = settings
        self._dispatcher = dispatcher
        self._worker_id = worker_id
        self._types = {event_type.name: event_type for event_type in settings.event_types}
        guard = settings.run.guard_seconds
        self._leaving_seconds = LEAVING_SHARE * guard if guard else float("inf")
        self._guard_seconds = guard or float("inf")
        self._numbers = itertools.count(1)
        self._own = threading.local()  # of each lane: its number, and when its last call was answered
        self._rests_until: dict[str, float] = {}  # by endpoint, monotonic seconds: when a rest that was told of is over
        #: The open run has another configuration: this worker must be replaced.
        self.outdated = False
        #: This worker is about to end: what waits to be carried alone is not waited for.
        self.leaving = False

    def carry(self, release: ClaimCheck) -> None:
        """Carry one released event as far as it goes. Whatever happens it is settled, given back, or its lease ends."""
        event_type = self._types.get(type_of(release.event_id))
        if event_type is None:
            self._look_at_revision()
            return
        longest = max(endpoint.timeout_seconds for one in self._types.values() for endpoint in one.endpoints)
        patient_until = system_clock.monotonic() + longest + LEASE_SLACK_SECONDS  # by then all leases of now have ended
        while (why := self._carry(release, event_type, patient_until)) == "waits":
            if self.leaving:
                with suppress(StoreError):
                    self._store.recovery.void_fetched([release])
                return
            system_clock.sleep(_ALONE_SECONDS)
        if why == "alone":
            system_clock.sleep(_ALONE_SECONDS)  # else it fetched the next event at once, and that in vain as well

    def _look_at_revision(self) -> None:
        """Note whether the open run has another configuration; the type of a forged claim check is in neither."""
        with suppress(StoreError):
            run = self._store.runs.current()
            self.outdated |= run is not None and run.revision != self._settings.revision

    def _carry(self, release: ClaimCheck, event_type: EventType, patient_until: float) -> str:
        """Carry it now; return why it was not claimed, or an empty string."""
        claimed_at = system_clock.monotonic()
        lease_seconds = max(endpoint.timeout_seconds for endpoint in event_type.endpoints) + LEASE_SLACK_SECONDS
        try:
            claim = self._claim(release, event_type, lease_seconds, patient=claimed_at < patient_until)
        except StoreError as error:
            log.info(
                "Event %s could not be claimed, for Redis failed; its release becomes void: %s",
                release.event_id,
                error,
                extra=self._extra("claim", release),
            )
            self._unclaim(release, claimed_at + lease_seconds)
            return ""
        if isinstance(claim, Unclaimed):
            self.outdated |= claim.why == "revision"
            return claim.why
        crash_point("worker.claimed")
        lease_ends = claimed_at + lease_seconds
        try:
            settle = self._attempt(claim, event_type, claimed_at, lease_ends - LEASE_SLACK_SECONDS / 2)
        except StoreError as error:
            log.info(
                "Redis failed while event %s was being sent; it is given back: %s",
                claim.event_id,
                error,
                extra=self._extra("give_back", claim.release),
            )
            settle = lambda: self._store.ledger.give_back(claim)  # noqa: E731
        except Exception:
            log.exception(
                "Event %s could not be carried; it is given back",
                claim.event_id,
                extra=self._extra("give_back", claim.release),
            )
            settle = lambda: self._store.ledger.give_back(claim)  # noqa: E731
        self._persist(settle, claim, lease_ends)
        return ""

    def _claim(
        self, release: ClaimCheck, event_type: EventType, lease_seconds: float, *, patient: bool
    ) -> Claim | Unclaimed:
        return self._store.ledger.claim(
            release,
            self._worker_id,
            self._settings.revision,
            ClaimTerms(
                [endpoint.name for endpoint in event_type.endpoints],
                lease_seconds,
                event_type.processing_seconds,
                sorted({endpoint.budget.name for endpoint in event_type.endpoints if endpoint.budget}),
                patient=patient,
            ),
        )

    def _unclaim(self, release: ClaimCheck, until: float) -> None:
        """Give back what may have been claimed though no answer came: else it would wait for the end of its lease."""
        while system_clock.monotonic() < until:
            with suppress(StoreError):
                self._store.ledger.unclaim(release, self._worker_id)
                return
            system_clock.sleep(_SETTLE_AGAIN_SECONDS)

    def _attempt(self, claim: Claim, event_type: EventType, claimed_at: float, held_until: float) -> Callable[[], bool]:
        """Send the event to the first endpoint that has a slot and answers in time; return how it is to be settled.

        No call outlasts the run's deadline, nor `held_until`, from when on the lease is left for settling it.
        """
        ledger, deadline = self._store.ledger, claimed_at + claim.remaining_seconds
        if unsound := _unsound(claim):
            reason, detail = unsound
            return lambda: ledger.fail(claim, reason, f"in the ledger it stands as what no item is: {detail}", "")
        for endpoint in _candidates(claim, event_type):
            now = system_clock.monotonic()
            needs = needed_seconds(event_type, endpoint.name, claim.expected)
            begins_by = min(deadline - needs, held_until - min(needs, endpoint.timeout_seconds))
            if now > begins_by:
                continue
            try:
                connection = self._dispatcher.connect(
                    endpoint, min(deadline - now, held_until - now, endpoint.timeout_seconds)
                )
            except UnreachableError as error:
                outcome = Unreachable(str(error), None, error.kind)
                self._note_failure(endpoint, outcome)
                return self._try_again(claim, endpoint, outcome)
            crash_point("worker.connected")
            call = Call(self._worker_id, claim.event_id, endpoint.name)
            try:
                taken = self._acquire(endpoint, call, begins_by)
            except StoreError:
                self._dispatcher.keep(endpoint, connection)
                raise
            if taken is None:
                self._dispatcher.keep(endpoint, connection)
                continue
            asked_at, slot = taken
            begun_at = system_clock.monotonic()
            expected_seconds = call_seconds(event_type, endpoint.name, claim.expected)
            return self._call(
                claim,
                endpoint,
                connection,
                slot,
                asked_at,
                # counted from here: what connecting and a slot took is not taken from the time it has to answer
                min(deadline, held_until, begun_at + endpoint.timeout_seconds),
                deadline,
                expected_seconds,
                begun_at - claimed_at,
            )
        return lambda: ledger.give_back(claim)

    def _acquire(self, endpoint: Endpoint, call: Call, begins_by: float) -> tuple[float, Admitted] | None:
        """Take a slot that can be used at once; return when it was asked for (monotonic seconds), and it.

        None where there is none, and where it is later than `begins_by`, when the call would not be answered in time:
        connecting may have taken long. Where the answer was so long on its way that the call would leave late, the slot
        is given back and asked for again: the event keeps its place before those that come after it.
        """
        tries_end = system_clock.monotonic() + LEAVING_TRIES_SECONDS
        while (asked_at := system_clock.monotonic()) <= begins_by:
            slot = self._store.windows.acquire(endpoint, call)
            if isinstance(slot, Refused):
                break
            answered_at = system_clock.monotonic()
            if answered_at <= min(begins_by, asked_at + self._leaving_seconds):
                return asked_at, slot
            self._store.windows.give_back(endpoint, slot, call)
            if answered_at > tries_end:
                log.warning(
                    "Redis takes %.0f ms for a slot, too long to use it; event %s is given back",
                    1000 * (answered_at - asked_at),
                    call.event_id,
                    extra={"action": "give_back", "event_id": call.event_id, "endpoint": endpoint.name},
                )
                break
        return None

    def _call(
        self,
        claim: Claim,
        endpoint: Endpoint,
        connection: Connection,
        slot: Admitted,
        asked_at: float,
        gives_up_at: float,
        deadline: float,
        expected_seconds: float,
        waited_seconds: float,
    ) -> Callable[[], bool]:
        """Send the request and wait for its answer; return how the event is to be settled.

        From here on the call counts, whatever becomes of Redis: what cannot be written now is written later.
        """
        crash_point("worker.slot_taken")
        call = Call(self._worker_id, claim.event_id, endpoint.name)
        begun_at = system_clock.monotonic()
        idle_seconds = begun_at - getattr(self._own, "answered_at", begun_at)
        request = Request(
            claim.event_id, claim.type, claim.wallet_name, claim.release.run_id, claim.attempt + 1, claim.item
        )
        trouble = self._dispatcher.send(connection, endpoint, request, gives_up_at)
        sent_at = system_clock.monotonic()
        crash_point("worker.sent")
        late = not trouble and sent_at - asked_at > self._leaving_seconds
        if late:
            with suppress(StoreError):
                slot = self._store.windows.block(endpoint, slot, call, left_late=True)  # as if taken only now
                late, asked_at = False, sent_at
        outcome = trouble or self._dispatcher.receive(connection, endpoint, sent_at, gives_up_at)
        self._own.answered_at = system_clock.monotonic()
        crash_point("worker.answered")
        cut = gives_up_at == deadline <= system_clock.monotonic()
        # A call worked off faster than most was read later than this. To go by the fastest would be safe, and have most
        # calls block their slots for longer though they were read in time.
        read_at = system_clock.monotonic() - expected_seconds
        counts_from = read_at - self._guard_seconds
        counts = counts_from if counts_from > asked_at else None
        sent = _Sent(endpoint, slot, call, outcome, late, counts, cut, waited_seconds, idle_seconds)
        settle = self._settlement(claim, sent)

        def report_and_settle() -> bool:
            self._report(sent)
            crash_point("worker.reported")
            return settle()

        return report_and_settle

    def _report(self, sent: _Sent) -> None:
        """Keep the window and the endpoint's health true. May be repeated: the second time changes little."""
        windows, endpoint = self._store.windows, sent.endpoint
        unanswered = isinstance(sent.outcome, Unreachable) and sent.outcome.seconds is None
        if sent.late or unanswered:
            windows.block(endpoint, sent.slot, sent.call, left_late=sent.late)
        elif sent.counts_from is not None:
            windows.restamp(endpoint, sent.slot, sent.call, system_clock.monotonic() - sent.counts_from)
        match sent.outcome:
            case Throttled(status=status, retry_after=seconds):
                rest = endpoint.limit.longest_seconds if seconds is None else seconds
                self._rest(sent, rest, status)
                self._tell_rest(sent, rest)
            case Unreachable() as outcome if not sent.cut:
                self._note_failure(endpoint, outcome)
            case Rejected(of_endpoint=True) as outcome:
                self._note_failure(endpoint, outcome)
            case Delivered() | Rejected() if sent.slot.suspect:
                if self._store.breaker.reopen(endpoint):
                    log.info(
                        "%s answers again, and is called as its limit allows",
                        endpoint.name,
                        extra={"action": "reopen_endpoint", "endpoint": endpoint.name},
                    )

    def _tell_rest(self, sent: _Sent, seconds: float) -> None:
        """Log that an endpoint asked for a rest, once for all calls that were under way here when it began."""
        name, now = sent.endpoint.name, system_clock.monotonic()
        if now < self._rests_until.get(name, now):
            return
        self._rests_until[name] = now + seconds
        others = len(self._types[type_of(sent.call.event_id)].endpoints) > 1
        log.info(
            "%s asked for a rest of %.1f s; %s",
            name,
            seconds,
            "the others take its share" if others else "its events wait until it is over",
            extra={"action": "rest_endpoint", "endpoint": name},
        )

    def _rest(self, sent: _Sent, seconds: float, status: int) -> None:
        """Rest an endpoint as it asked; say so, once over all workers, where its limit is set too high."""
        breaker, endpoint = self._store.breaker, sent.endpoint
        if status != TOO_MANY_REQUESTS:
            breaker.rest(endpoint, seconds)
            return
        refusals = breaker.refuse(endpoint, seconds, sent.slot)
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

    def _note_failure(self, endpoint: Endpoint, outcome: Unreachable | Rejected) -> None:
        """Count a failure of an endpoint; say so, once over all workers, when by that it is rested.

        Where it refuses whatever it is sent, what still waits is kept for when it is mended.
        """
        failed = self._store.breaker.fail(
            endpoint, first_rest_seconds=FIRST_REST_SECONDS, failing=FAILING, why=outcome.kind
        )
        if failed.opened:
            # What an endpoint answered may hold what it was sent, so of an answer the status alone is told.
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

    def _settlement(self, claim: Claim, sent: _Sent) -> Callable[[], bool]:
        ledger, name = self._store.ledger, sent.endpoint.name
        match sent.outcome:
            case Delivered(status=status, seconds=seconds):
                waited, idle, told = sent.waited_seconds, sent.idle_seconds, f"HTTP {status}"
                return lambda: ledger.complete(claim, name, seconds, told, waited_seconds=waited, idle_seconds=idle)
            case Throttled(status=status, seconds=seconds, retry_after=rest, kind=kind):
                asked = "" if rest is None else f", asked for a rest of {rest:.1f} s"
                return lambda: ledger.throttle(claim, name, Heard(f"HTTP {status}{asked}", seconds, kind))
            case Rejected(detail=detail, seconds=seconds, kind=kind):
                heard = Heard(detail, seconds, kind)
                return lambda: ledger.fail(claim, Reason.REJECTED, f"{name} answered {detail}", name, heard)
            case Unreachable() as outcome:
                return self._try_again(claim, sent.endpoint, outcome, cut=sent.cut)

    def _try_again(
        self, claim: Claim, endpoint: Endpoint, outcome: Unreachable, *, cut: bool = False
    ) -> Callable[[], bool]:
        ledger, retry, name = self._store.ledger, self._settings.retry, endpoint.name
        tries = claim.tries + 1
        told = f"{outcome.detail}, cut by the run's deadline" if cut else outcome.detail
        heard = Heard(told, outcome.seconds, kinds.DEADLINE if cut else outcome.kind)
        if cut or tries < retry.max_attempts:
            delay = FIRST_BACKOFF_SECONDS * 2 ** (tries - 1) * random.uniform(0.5, 1.5)
            return lambda: ledger.retry(claim, name, delay, heard, cut=cut)
        if claim.runs + 1 < retry.max_runs:
            return lambda: ledger.spend(claim, name, heard)
        detail = f"{tries} attempts in each of {retry.max_runs} runs failed, the last at {name}: {outcome.detail}"
        return lambda: ledger.fail(claim, Reason.ATTEMPTS_SPENT, detail, name, heard)

    def _persist(self, settle: Callable[[], bool], claim: Claim, until: float) -> None:
        """Settle, again and again while Redis is away, as long as the lease lasts: the call has been made."""
        while True:
            try:
                settled = settle()
            except StoreError as error:
                if system_clock.monotonic() < until:
                    system_clock.sleep(_SETTLE_AGAIN_SECONDS)
                    continue
                log.warning(
                    "Event %s could not be settled before its lease ended, it will be sent again: %s",
                    claim.event_id,
                    error,
                    extra=self._extra("lose_claim", claim.release),
                )
                return
            crash_point("worker.settled")
            if not settled:
                log.info(
                    "The answer for event %s came after its claim was lost; the ledger did not change",
                    claim.event_id,
                    extra=self._extra("late_answer", claim.release),
                )
            return

    def _extra(self, action: str, release: ClaimCheck) -> dict[str, str | int]:
        return {
            "action": action,
            "event_id": release.event_id,
            "run_id": release.run_id,
            "lane": self._lane(),
            "worker": self._worker_id,
        }

    def _lane(self) -> int:
        """Number this lane, from 1, when something is first told of it."""
        number: int | None = getattr(self._own, "number", None)
        if number is None:
            number = self._own.number = next(self._numbers)
        return number


def _unsound(claim: Claim) -> tuple[Reason, str] | None:
    """Tell why an event cannot be sent as it stands in the ledger; it could be when it was taken."""
    try:
        claim.wallet_name.encode()
        msgspec.json.decode(claim.item)
    except UnicodeEncodeError:
        return Reason.BAD_VALUE, "its wallet_name is no text"
    except (ValueError, RecursionError) as error:
        return Reason.NOT_JSON, f"not JSON: {error}"
    return None


def _candidates(claim: Claim, event_type: EventType) -> Iterator[Endpoint]:
    """The endpoint meant for the event first, then the type's others; the one that failed it last comes last."""

    def place(endpoint: Endpoint) -> tuple[bool, bool]:
        return endpoint.name == claim.last_endpoint and claim.tries > 0, endpoint.name != claim.endpoint

    for endpoint in sorted(event_type.endpoints, key=place):
        yield in_force(endpoint, claim.limits)
