"""What a call's answer says about the health of its endpoint, and about the way there from this host."""

from __future__ import annotations

import logging
from typing import Final

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.endpoint import Endpoint
from rlm.core.window import FAILING
from rlm.delivery.outcome import BAD_HEADER, Answered, Delivered, Rejected, Throttled, Unreachable
from rlm.ledger import Store
from rlm.ledger.breaker import FIRST_REST_SECONDS
from rlm.ledger.ways import Failure, Trouble

#: How often each worker notes that an endpoint answers this host although no event is completed, seconds.
NOTE_SECONDS = 3.0
#: `news` of a trouble that was not known before.
_NEW: Final = 1
_OPENED: Final = (
    "%s failed %d times in a row, the last time with: %s; it rests, first %.1f s, then twice as long each time, and is "
    "probed%s"
)
#: Added for an endpoint that refuses every event.
_REFUSED_MEANWHILE: Final = "; what waits is kept, and `rlm failed retry` sends what it refused again"

log = logging.getLogger(__name__)


class HealthKeeper:
    """Keeps windows, endpoint health and this host's ways up to date; one for all lanes."""

    def __init__(self, store: Store, host: str, endpoints: int) -> None:
        """Report for a worker on `host`; `endpoints` is the number of all endpoints it may call."""
        self._windows = store.windows
        self._breaker = store.breaker
        self._ways = store.ways
        self._host = host
        self._endpoints = endpoints
        self._rests_until: dict[str, float] = {}
        self._shut_until: dict[str, float] = {}
        self._failed_at = float("-inf")
        self._noted_at: dict[str, float] = {}

    def reaches(self, endpoint: Endpoint) -> bool:
        """Return whether the way to an endpoint is open, as far as this worker knows."""
        return system_clock.monotonic() >= self._shut_until.get(endpoint.window_id, 0.0)

    def report(self, answered: Answered, *, others: bool) -> bool:
        """Write what a call shows. Repeating it changes little.

        `others`: the event's type has other endpoints. Return whether the call failed because of this host, so its
        event should not spend an attempt.
        """
        endpoint, outcome = answered.endpoint, answered.outcome
        unanswered = isinstance(outcome, Unreachable) and outcome.seconds is None
        if answered.late or unanswered:
            self._windows.block(endpoint, answered.slot, answered.call, left_late=answered.late)
        elif answered.counts_from is not None:
            ago_seconds = system_clock.monotonic() - answered.counts_from
            self._windows.block(endpoint, answered.slot, answered.call, ago_seconds=ago_seconds)
        if answered.stale:  # the event may be another worker's by now, and the answer is outdated
            return True
        if not unanswered:
            self._note_answer(endpoint, suspect=answered.slot.suspect, completed=isinstance(outcome, Delivered))
        match outcome:
            case Throttled():
                self._rest(endpoint, outcome, others=others)
            case Unreachable() if not answered.cut:
                return self.fail(endpoint, outcome)
            case Rejected(of_endpoint=True):
                return self.fail(endpoint, outcome)
            case Delivered() | Rejected() if answered.slot.suspect:
                if self._breaker.reopen(endpoint):
                    extra = {"action": "reopen_endpoint", "endpoint": endpoint.name}
                    log.info("%s answers again, and is called as its limit allows", endpoint.name, extra=extra)
        return False

    def fail(self, endpoint: Endpoint, outcome: Unreachable | Rejected) -> bool:
        """Count a failure of the endpoint or of this host's way to it; return the same as `report`."""
        if isinstance(outcome, Unreachable) and outcome.seconds is None and outcome.kind != BAD_HEADER:
            trouble = self._fail_way(endpoint, outcome)
            if trouble.of_host:
                return outcome.unsent or trouble.shut_seconds > 0
        self._fail_endpoint(endpoint, outcome)
        return False

    def _fail_way(self, endpoint: Endpoint, outcome: Unreachable) -> Trouble:
        failure = Failure(outcome.kind, here=outcome.here, silent=outcome.silent)
        trouble = self._ways.fail(endpoint, self._host, failure, self._endpoints)
        now = self._failed_at = system_clock.monotonic()
        if trouble.of_host:
            self._shut_until[endpoint.window_id] = now + trouble.shut_seconds
        if trouble.news:
            self._tell_trouble(endpoint, outcome, trouble)
        return trouble

    def _tell_trouble(self, endpoint: Endpoint, outcome: Unreachable, trouble: Trouble) -> None:
        """Log that this host does not reach what others reach: once, and again if it is cut off later."""
        what = "is cut off: it reaches Redis, but no endpoint any more" if trouble.state == "cut" else "is in trouble"
        message = (
            "Host %s %s; the last it could not call was %s: %s. What it was sending goes to others, and it is probed"
        )
        extra = {"action": "shut_way", "host": self._host, "endpoint": endpoint.name}
        extra |= {"alarm": Alarm.HOST_CUT_OFF} if trouble.news == _NEW else {}
        log.warning(message, self._host, what, endpoint.name, outcome.detail, extra=extra)

    def _note_answer(self, endpoint: Endpoint, *, suspect: bool, completed: bool) -> None:
        """Note now and then that an endpoint answers this host, and at once after a failure at any endpoint.

        Without a failure, an event that was `completed` needs no note, because settling it notes the same.
        """
        now, name = system_clock.monotonic(), endpoint.window_id
        noted_at = self._noted_at.get(name, float("-inf"))
        if not suspect and noted_at >= self._failed_at and (completed or now - noted_at < NOTE_SECONDS):
            return
        opened, over = self._ways.open(endpoint, self._host)
        self._noted_at[name] = now
        self._shut_until.pop(name, None)
        if opened:
            message = f"Host {self._host} reaches {endpoint.name} again{', and is in service again' if over else ''}"
            log.info("%s", message, extra={"action": "open_way", "host": self._host, "endpoint": endpoint.name})

    def _rest(self, endpoint: Endpoint, throttled: Throttled, *, others: bool) -> None:
        """Rest an endpoint as it asked, or for longer if it keeps refusing; log a rest once for all calls under way."""
        asked = endpoint.limit.longest_seconds if throttled.retry_after is None else throttled.retry_after
        seconds, now = self._breaker.rest(endpoint, asked), system_clock.monotonic()
        if now < self._rests_until.get(endpoint.name, now):
            return
        self._rests_until[endpoint.name] = now + seconds
        then = "the others take its share" if others else "its events wait until it is over"
        extra = {"action": "rest_endpoint", "endpoint": endpoint.name}
        log.info("%s refuses calls and rests %.1f s; %s", endpoint.name, seconds, then, extra=extra)

    def _fail_endpoint(self, endpoint: Endpoint, outcome: Unreachable | Rejected) -> None:
        """Count a failure of an endpoint. If that makes it rest, log it, which happens once over all workers."""
        failed = self._breaker.fail(endpoint, first_rest_seconds=FIRST_REST_SECONDS, failing=FAILING, why=outcome.kind)
        if failed.opened:
            # An answer may quote the request, so only its status is logged.
            why = outcome.detail if outcome.seconds is None else outcome.detail.partition(":")[0]
            more = _REFUSED_MEANWHILE if isinstance(outcome, Rejected) else ""
            extra = alarm(Alarm.BREAKER_OPEN, "rest_endpoint", counts={"failures": FAILING}, endpoint=endpoint.name)
            log.warning(_OPENED, endpoint.name, FAILING, why, failed.rest_seconds, more, extra=extra)
