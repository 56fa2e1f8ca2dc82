"""One attempt of an event, from the claim of a lane to its settlement: the call, its outcome, and what becomes of it.

The slot comes with the claim. A call on a kept connection leaves at once. Without one the lane connects first, and then
moves the stamp of the slot to now, in an owned step, before it sends: a limit is about when the server reads calls.
"""

from __future__ import annotations

import email.utils
import errno
import logging
import random
import re
import socket
import ssl
from datetime import UTC
from enum import StrEnum
from http import HTTPStatus
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import replace

from rlm.core.call import CallEnd
from rlm.core.clock import system_clock
from rlm.core.documents import WEB_PAGE
from rlm.core.endpoint import Endpoint
from rlm.core.errors import StoreError
from rlm.core.failpoints import crash_point
from rlm.core.item import BadItemError, Reason, encode_letter
from rlm.delivery.http import Answer, BrokenAnswerError, Connection, Connections, UnreachableError, render
from rlm.ledger.processes import host_of
from rlm.ledger.store import Store
from rlm.ledger.turns import Claim, Settlement
from rlm.ledger.values import MICROSECONDS
from rlm.settings.model import RetrySettings
from rlm.settings.secrets import mask

#: A `Retry-After` beyond this many seconds is taken for a mistake and shortened to this.
MAX_RETRY_AFTER_SECONDS = 86_400.0

log = logging.getLogger(__name__)
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


class Call(msgspec.Struct, frozen=True):
    """A call that a lane was to make for a claim, and the answer or the error that ended it; None: it was not made.

    `seconds` passed from when its request had left, or began to if it never did, to its end; None without a connection.
    The slot counts from `counts_us` before now, if that is not None. `cut`: the end was the deadline of the run.
    """

    claim: Claim
    endpoint: Endpoint | None = None
    end: Answer | Exception | None = None
    seconds: float | None = None
    is_sent: bool = False
    counts_us: int | None = None
    cut: bool = False


class Caller:
    """Makes the calls of all lanes of a worker process, and says what becomes of their events."""

    def __init__(self, store: Store, connections: Connections) -> None:
        self._clock, self._turns, self._settings = store.clock, store.turns, store.settings
        self._connections, kinds = connections, store.settings.event_types
        #: What types share may differ in headers, time-out and success.
        self._endpoints = {(kind.name, each.name): each for kind in kinds for each in kind.endpoints}

    def make(self, claim: Claim, asked_at: float) -> Settlement:
        """Make a call, whose slot is not older than `asked_at`; return what becomes of its event."""
        crash_point("worker.claimed")
        retry = self._settings.retry
        try:
            return settlement_of(self._call(claim, asked_at), retry, self._clock.now())
        except Exception:
            extra = {"action": "give_back", "event_id": claim.event_id, "run_id": claim.run_id}
            log.exception("Event %s could not be handled", claim.event_id, extra=extra)
            fault = BrokenAnswerError("RLM failed during the call; the log of its worker says how")
            return settlement_of(Call(claim, end=fault, counts_us=0), retry, self._clock.now())

    def reaches_any(self) -> bool:
        """Return whether an endpoint, any of them, can be connected to."""
        endpoint = random.choice([*self._endpoints.values()])
        try:
            self._connections.put_back(self._connections.connect(endpoint.url, endpoint.timeout_seconds, fresh=True))
        except UnreachableError:
            return False
        return True

    def _call(self, claim: Claim, asked_at: float) -> Call:
        """Connect, and send the request unless it is too late by then."""
        endpoint, connections = self._endpoints[claim.type, claim.endpoint], self._connections
        deadline = self._clock.reached_at(claim.deadline_us)
        try:
            # Kept connections may be about to fail like the one of the call that failed before.
            seconds = min(deadline - system_clock.monotonic(), endpoint.timeout_seconds)
            connection = connections.connect(endpoint.url, seconds, fresh=claim.tries > 0)
        except UnreachableError as error:
            return Call(claim, endpoint, error)
        try:
            crash_point("worker.connected")
            leaves_from = asked_at if connection.kept else system_clock.monotonic()
            slot = claim if connection.kept else self._restamped(claim)
            begins_by = min(leaves_from + self._settings.run.leaving_seconds, deadline - claim.need_us / MICROSECONDS)
            if slot is None or system_clock.monotonic() > begins_by:
                return Call(claim)
            return self._exchange(slot, leaves_from, endpoint, connection, deadline)
        finally:
            connections.put_back(connection)

    def _exchange(
        self, claim: Claim, leaves_from: float, endpoint: Endpoint, connection: Connection, deadline: float
    ) -> Call:
        """Send the request, with a slot that was stamped at `leaves_from` or later, and read the answer.

        The slot counts from the end of the call, when its connection was closed, if there was no answer, or if it left
        late and Redis did not say so. Otherwise the API is assumed to have read a request one typical call time before
        it answered: the fastest time would be safer, but would block the slots of most calls for longer although they
        were read in time.
        """
        # The time-out counts from here, so connecting and taking a slot do not shorten the endpoint's time to answer.
        sent_at, is_sent, is_late = system_clock.monotonic(), False, False
        gives_up_at = min(deadline, sent_at + endpoint.timeout_seconds)
        end: Answer | Exception
        crash_point("worker.slot_taken")
        try:
            connection.send(render(endpoint, claim), gives_up_at)
            sent_at, is_sent = system_clock.monotonic(), True
            crash_point("worker.sent")
            is_late = sent_at > leaves_from + self._settings.run.leaving_seconds
            if is_late and (restamped := self._restamped(claim)):
                claim, leaves_from, is_late = restamped, sent_at, False
            end = connection.receive(gives_up_at)
        except (OSError, ValueError, BrokenAnswerError) as error:
            end = error
        crash_point("worker.answered")
        now, counts_us = system_clock.monotonic(), None
        read_before = claim.call_us / MICROSECONDS + self._settings.run.guard_seconds
        if is_late or isinstance(end, Exception):
            counts_us = 0
        elif now - read_before > leaves_from:
            counts_us = round(read_before * MICROSECONDS)
        is_cut = gives_up_at == deadline <= now
        return Call(claim, endpoint, end, now - sent_at, is_sent=is_sent, counts_us=counts_us, cut=is_cut)

    def _restamped(self, claim: Claim) -> Claim | None:
        """Let the slot count from now; return the claim, or None if it is no longer the lane's or Redis is away."""
        try:
            moment = self._turns.restamp(claim)
        except StoreError:
            return None
        return replace(claim, stamp=moment) if moment else None


def settlement_of(call: Call, retry: RetrySettings, now: float) -> Settlement:
    """Return what becomes of an event after its call, `now` by the clock of Redis."""
    claim, end = call.claim, call.end
    if end is None:
        return unsent(claim)
    if isinstance(end, BadItemError):  # which says nothing of its endpoint
        return replace(unsent(claim), to="failed", letter=_letter(claim, end.reason, str(end), now))
    outcome, answer = outcome_of(call), end if isinstance(end, Answer) else None
    made = Settlement(
        event_id=claim.event_id,
        number=claim.number,
        endpoint=claim.endpoint,
        stamp=claim.stamp,
        to="backoff",
        sent=not isinstance(end, UnreachableError),
        finish=outcome.finish,
        counts_us=call.counts_us,
        tried=claim.tried(),
        kind=outcome.kind,
        took_ms="" if call.seconds is None else f"{1000 * call.seconds:.1f}",
        entry=trail_entry(claim, outcome.finish, outcome.text, call.seconds if answer else None),
    )
    match outcome.finish:
        case CallEnd.COMPLETED:
            return replace(made, to="completed", health="well")
        case CallEnd.THROTTLED:
            asked_us = -1 if outcome.rest_seconds is None else round(outcome.rest_seconds * MICROSECONDS)
            return replace(made, to="ready", health="refusal", asked_us=asked_us, tried=None)
        case CallEnd.REJECTED:
            # Several of these in a row concern the endpoint, or the access to it: the contract lists them.
            health = "failure" if answer and answer.status in {401, 403, 404, 405, 410} else "well"
            why = f"{claim.endpoint} answered {outcome.text}"
            return replace(made, to="failed", health=health, letter=_letter(claim, Reason.REJECTED, why, now))
        case _:
            return made if call.cut else _failed_again(made, call, outcome.text, retry, now)


def _failed_again(made: Settlement, call: Call, text: str, retry: RetrySettings, now: float) -> Settlement:
    """Return the settlement of an attempt that failed: the event is retried, left over, or dead after all its runs."""
    claim, tries = call.claim, call.claim.tries + 1
    # Half a second, twice as long after each failure; at random, so that what failed together does not return together.
    delay_us = round(0.5 * 2.0**claim.tries * random.uniform(0.5, 1.5) * MICROSECONDS)
    made = replace(made, health="failure", unconnected=not made.sent, delay_us=delay_us)
    cause = call.end.__cause__ if isinstance(call.end, UnreachableError) else None
    # An SSLError is an OSError with OpenSSL's numbers, so its 1 is not EPERM.
    if isinstance(cause, OSError) and not isinstance(cause, ssl.SSLError) and cause.errno in _HERE:
        return replace(made, tried=None)  # no attempt is spent
    if tries < retry.max_attempts:
        return made
    if claim.runs + 1 < retry.max_runs:
        return replace(made, to="spent", tried=claim.tried(spends_run=True))
    why = f"{tries} attempts in each of {retry.max_runs} runs failed, the last at {claim.endpoint}: {text}"
    return replace(made, to="failed", letter=_letter(claim, Reason.ATTEMPTS_SPENT, why, now))


def trail_entry(claim: Claim, finish: CallEnd, text: str, seconds: float | None) -> str:
    """Return a call for the event's trail: how it ended, in words, and its seconds if it was answered."""
    text = text[:200].encode("utf-8", "backslashreplace").decode()  # an error may quote invalid text
    took, host = None if seconds is None else round(seconds, 3), host_of(claim.worker_id)
    call = claim.run_id, claim.attempt + 1, claim.endpoint, finish, text, took, host
    return msgspec.json.encode(call).decode()


def unsent(claim: Claim) -> Settlement:
    """Return the settlement of a call that was not made: its slot is given back, and its event waits again."""
    return Settlement(claim.event_id, claim.number, claim.endpoint, claim.stamp, "ready")


def _letter(claim: Claim, reason: Reason, detail: str, now: float) -> str:
    facts = {"run_id": claim.run_id, "event": claim.event_id, "endpoint": claim.endpoint}
    return encode_letter(claim.item, reason, detail, failed_at=now, **facts).decode()


class Outcome(NamedTuple):
    """Which of the four outcomes a call had, in words, and the `kind` as which it is counted, empty for no trouble.

    An error may be sent again: 408, 425, other 5xx, an unexpected 2xx, no answer at all. `rest_seconds` is what a
    throttling endpoint asked for, if it did.
    """

    text: str
    kind: str = ""
    finish: CallEnd = CallEnd.ERROR
    rest_seconds: float | None = None


def outcome_of(call: Call) -> Outcome:
    """Return the outcome of a call that was made, or could not be."""
    outcome = _answered(call.end, call.endpoint) if isinstance(call.end, Answer) else _unanswered(call, call.end)
    if call.cut and outcome.finish is CallEnd.ERROR:
        return Outcome(f"{outcome.text}, cut by the run's deadline", Kind.DEADLINE)
    return outcome


def _answered(answer: Answer, endpoint: Endpoint | None) -> Outcome:
    status, text, success = answer.status, f"HTTP {answer.status}", endpoint and endpoint.success
    if status in range(200, 300):
        content_type = next(iter(answer.values("content-type")), "")
        if success and not success.accepts(content_type, b"" if answer.encoded else answer.body):
            what = _excerpt(answer, f"{content_type or 'no content type'}: ")
            return Outcome(f"{text}, {Kind.UNEXPECTED}: {what}", Kind.UNEXPECTED)
        if not success and content_type.lower().startswith("text/html"):  # perhaps a login page
            return Outcome(f"{text}, {_excerpt(answer, f'{content_type}: ')}", WEB_PAGE, CallEnd.COMPLETED)
        return Outcome(text, finish=CallEnd.COMPLETED)
    kind = f"HTTP {status}" if status in {*HTTPStatus} else f"HTTP {status // 100}xx"  # so there are few
    rests = answer.values("retry-after")
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.SERVICE_UNAVAILABLE and rests):
        date = next(map(parse_date, answer.values("date")), None)  # by the endpoint's clock, like its `Retry-After`
        now = system_clock.now() if date is None else date
        # A proxy may have added one, and both count.
        rest = max((rest for value in rests if (rest := parse_retry_after(value, now)) is not None), default=None)
        text += "" if rest is None else f", asked for a rest of {rest:.1f} s"
        return Outcome(text, kind, CallEnd.THROTTLED, rest)
    excerpt = _excerpt(answer)
    text += f": {excerpt}" if excerpt else ""
    may_be_sent_again = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in {408, 425}
    return Outcome(text, kind, CallEnd.ERROR if may_be_sent_again else CallEnd.REJECTED)


def _unanswered(call: Call, error: Exception | None) -> Outcome:
    kind, why = kind_of_error(error and (error.__cause__ or error)), mask(str(error))
    if call.seconds is None:
        return Outcome(why, kind)
    if not call.is_sent:
        return Outcome(f"the request could not be sent completely: {why}", kind)
    if kind is Kind.NO_ANSWER:
        return Outcome(f"no answer within {call.seconds:.1f} s", kind)
    return Outcome(f"{kind} after {call.seconds:.1f} s: {why}", kind)


def _excerpt(answer: Answer, before: str = "") -> str:
    """Return the beginning of an answer's body, with what goes before it, without secrets and safe to show."""
    body = "" if answer.encoded else answer.body.decode("latin-1")
    text = mask(before + body, torn=not answer.whole)
    return _UNPRINTABLE.sub(" ", text)[:200].strip()


def parse_date(value: str) -> float | None:
    """Return an HTTP date as seconds since 1970, None if it is invalid."""
    try:
        moment = email.utils.parsedate_to_datetime(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def parse_retry_after(value: str, now: float) -> float | None:
    """Return a `Retry-After` (seconds or an HTTP date) as seconds from `now` (since 1970), None if it is invalid.

    `now` should be the answer's `Date`, because the endpoint wrote both by the same clock. Negative numbers are
    invalid, and so is what only Python reads as a number: `inf`, `1e9`, `1_0`.
    """
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", value.strip(), re.ASCII):
        seconds = float(value.strip())  # `float` itself strips fewer characters
    elif (moment := parse_date(value)) is not None:
        seconds = moment - now
    else:
        return None
    return min(max(0.0, seconds), MAX_RETRY_AFTER_SECONDS)


class Kind(StrEnum):
    """The words under which failed calls are counted beside `HTTP 503`; they are few, whatever an endpoint does."""

    REFUSED = "connection refused"
    NO_ANSWER = "no answer in time"
    CUT = "connection cut"
    BROKEN = "broken answer"
    NO_NAME = "name not found"
    NO_RESOLVER = "no resolver answers"
    NO_WAY = "not reachable"
    BAD_CERTIFICATE = "TLS certificate refused"
    EXPIRED = "TLS certificate expired"
    NO_TLS = "TLS failed"
    BAD_HEADER = "not what HTTP allows"
    UNEXPECTED = "unexpected_answer"  # a 2xx that is not what the settings say is success
    DEADLINE = "cut by the deadline"  # of the run, which says nothing about the endpoint


#: By the error, subclasses before their base classes.
_OF_ERRORS: Final = (
    (BrokenAnswerError, Kind.BROKEN),
    (TimeoutError, Kind.NO_ANSWER),
    (ConnectionRefusedError, Kind.REFUSED),
    (ConnectionError, Kind.CUT),
    (ssl.SSLCertVerificationError, Kind.BAD_CERTIFICATE),
    (ssl.SSLError, Kind.NO_TLS),
    (socket.gaierror, Kind.NO_NAME),
    (UnicodeError, Kind.NO_NAME),
    (ValueError, Kind.BAD_HEADER),
)
#: OpenSSL's number for a certificate that has expired.
_EXPIRED: Final = 10
#: Errors by which this host cannot call anyone: no route, forbidden by a local rule, no more descriptors, ports or
#: memory, no resolver. `EHOSTUNREACH` is none of them, because every host gets it if a neighbour or router reports it.
_HERE: Final = {
    *(errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM, socket.EAI_AGAIN),
    *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
}


def kind_of_error(error: BaseException | None) -> Kind:
    """Return the word for the error that kept a call from being answered."""
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return Kind.NO_RESOLVER
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == _EXPIRED:
        return Kind.EXPIRED
    return next((kind for errors, kind in _OF_ERRORS if isinstance(error, errors)), Kind.NO_WAY)
