"""The four outcomes of a call: what an answer or a failure is, in a few words, and what it means for the event."""

from __future__ import annotations

import email.utils
import errno
import re
import socket
import ssl
from datetime import UTC
from enum import StrEnum
from http import HTTPStatus
from typing import Final

from msgspec.structs import replace

from rlm.core.call import CallEnd, Heard, backoff_seconds
from rlm.core.clock import system_clock
from rlm.core.documents import WEB_PAGE
from rlm.core.endpoint import Endpoint
from rlm.core.item import BadItemError, Reason, encode_letter
from rlm.delivery.http import Answer, BrokenAnswerError, UnreachableError
from rlm.ledger.turns import Claim, Settlement
from rlm.ledger.values import MICROSECONDS
from rlm.settings.model import RetrySettings
from rlm.settings.secrets import mask

#: A `Retry-After` beyond this many seconds is taken for a mistake and shortened to this.
MAX_RETRY_AFTER_SECONDS = 86_400.0
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


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
#: System errors that mean this host cannot call anyone: no route, forbidden by a local rule, or no more descriptors,
#: ports or memory. `EHOSTUNREACH` is not among them, because every host gets it if a neighbour or router reports it.
_HERE: Final = {
    *(errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM),
    *(errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM),
}


def kind_of_error(error: BaseException) -> Kind:
    """Return the word for the error that kept a call from being answered."""
    if isinstance(error, socket.gaierror) and error.errno == socket.EAI_AGAIN:
        return Kind.NO_RESOLVER
    if isinstance(error, ssl.SSLCertVerificationError) and error.verify_code == _EXPIRED:
        return Kind.EXPIRED
    return next((kind for errors, kind in _OF_ERRORS if isinstance(error, errors)), Kind.NO_WAY)


def lies_here(error: BaseException) -> bool:
    """Return whether this host is the reason that a call could not be made; then it says nothing about the endpoint."""
    if isinstance(error, socket.gaierror):
        return error.errno == socket.EAI_AGAIN  # no resolver answers
    # An SSLError is an OSError with OpenSSL's numbers, so its 1 is not EPERM.
    return isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno in _HERE


def kind_of_status(status: int) -> str:
    """Return the word for an answer. Statuses unknown to HTTP share one, so that there are few words."""
    return f"HTTP {status}" if status in {*HTTPStatus} else f"HTTP {status // 100}xx"


class Outcome(Heard, frozen=True):
    """How a call ended: what was `Heard`, and which of the four outcomes it is.

    An error may be sent again: 408, 425, other 5xx, an unexpected 2xx, no answer at all. `rest_seconds` is what a
    throttling endpoint asked for, if it did; `of_endpoint`: a rejection that concerns the endpoint, so several in a row
    are its trouble; `unsent`: no connection could be opened; `here`: this host is the cause.
    """

    finish: CallEnd = CallEnd.ERROR
    rest_seconds: float | None = None
    of_endpoint: bool = False
    unsent: bool = False
    here: bool = False


def outcome_of(answer: Answer, endpoint: Endpoint, seconds: float) -> Outcome:
    """Return the outcome of a call that was answered `seconds` after it was sent."""
    status, text, success = answer.status, f"HTTP {answer.status}", endpoint.success
    if status in range(200, 300):
        content_type = next(iter(answer.values("content-type")), "")
        if success and not success.accepts(content_type, b"" if answer.encoded else answer.body):
            what = _excerpt(answer, f"{content_type or 'no content type'}: ")
            return Outcome(f"{text}, {Kind.UNEXPECTED}: {what}", seconds, Kind.UNEXPECTED)
        if not success and content_type.lower().startswith("text/html"):  # perhaps a login page
            return Outcome(f"{text}, {_excerpt(answer, f'{content_type}: ')}", seconds, WEB_PAGE, CallEnd.COMPLETED)
        return Outcome(text, seconds, finish=CallEnd.COMPLETED)
    kind, rests = kind_of_status(status), answer.values("retry-after")
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.SERVICE_UNAVAILABLE and rests):
        date = next(map(parse_date, answer.values("date")), None)  # by the endpoint's clock, like its `Retry-After`
        now = system_clock.now() if date is None else date
        # A proxy may have added one, and both count.
        rest = max((rest for value in rests if (rest := parse_retry_after(value, now)) is not None), default=None)
        text += "" if rest is None else f", asked for a rest of {rest:.1f} s"
        return Outcome(text, seconds, kind, CallEnd.THROTTLED, rest_seconds=rest)
    excerpt = _excerpt(answer)
    text += f": {excerpt}" if excerpt else ""
    if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in {408, 425}:
        # Several of these in a row concern the endpoint, or the access to it: the contract lists them.
        return Outcome(text, seconds, kind, CallEnd.REJECTED, of_endpoint=status in {401, 403, 404, 405, 410})
    return Outcome(text, seconds, kind)


def failure_of(error: Exception, seconds: float | None = None) -> Outcome:
    """Return the outcome of a call without an answer, `seconds` after it was sent; None: not, or not completely."""
    cause, why = error.__cause__ or error, mask(str(error))
    kind = kind_of_error(cause)
    if isinstance(error, UnreachableError):
        return Outcome(why, None, kind, unsent=True, here=lies_here(cause))
    if seconds is None:
        text = f"the request could not be sent completely: {why}"
    elif kind is Kind.NO_ANSWER:
        text = f"no answer within {seconds:.1f} s"
    else:
        text = f"{kind} after {seconds:.1f} s: {why}"
    return Outcome(text, None, kind)


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


def settlement_of(claim: Claim, outcome: Outcome, retry: RetrySettings, now: float, *, cut: bool = False) -> Settlement:
    """Return what becomes of an event after its call, `now` by the clock of Redis; `cut`: the run's deadline ended it.

    What is missing is what only the lane knows: how long the call took, and from when its slot counts.
    """
    finish = outcome.finish
    if cut and finish is CallEnd.ERROR:
        kind, text = Kind.DEADLINE, f"{outcome.text}, cut by the run's deadline"
        outcome = replace(outcome, kind=kind, text=text)
    made = Settlement(
        event_id=claim.event_id,
        number=claim.number,
        endpoint=claim.endpoint,
        stamp=claim.stamp,
        to="backoff",
        sent=not outcome.unsent,
        finish=finish,
        kind=outcome.kind,
        entry=claim.entry(finish, outcome),
    )
    match finish:
        case CallEnd.COMPLETED:
            return replace(made, to="completed", health="well", fields=claim.counted())
        case CallEnd.THROTTLED:
            asked_us = -1 if outcome.rest_seconds is None else round(outcome.rest_seconds * MICROSECONDS)
            return replace(made, to="ready", health="refusal", asked_us=asked_us)
        case CallEnd.REJECTED:
            letter = _letter(claim, Reason.REJECTED, f"{claim.endpoint} answered {outcome.text}", now)
            health = "failure" if outcome.of_endpoint else "well"
            return replace(made, to="failed", health=health, fields=claim.counted(), letter=letter)
        case _ if cut:
            return replace(made, fields=claim.counted())
        case _:
            delay_us = round(backoff_seconds(claim.tries + 1) * MICROSECONDS)
            made = replace(made, health="failure", unconnected=outcome.unsent, delay_us=delay_us)
            # If this host cannot call anyone, that spends no attempt.
            return made if outcome.here else _spent(replace(made, fields=claim.counted()), claim, outcome, retry, now)


def _spent(made: Settlement, claim: Claim, outcome: Outcome, retry: RetrySettings, now: float) -> Settlement:
    """Return the settlement of an attempt that failed: the event is retried, left over, or dead after all its runs."""
    tries = claim.tries + 1
    if tries < retry.max_attempts:
        return made
    if claim.runs + 1 < retry.max_runs:
        return replace(made, to="spent", fields=claim.counted(spends_run=True))
    why = f"{tries} attempts in each of {retry.max_runs} runs failed, the last at {claim.endpoint}: {outcome.text}"
    return replace(made, to="failed", letter=_letter(claim, Reason.ATTEMPTS_SPENT, why, now))


def unsent(claim: Claim) -> Settlement:
    """Return the settlement of a call that was not made: its slot is given back, and its event waits again."""
    return Settlement(claim.event_id, claim.number, claim.endpoint, claim.stamp, "ready")


def damaged(claim: Claim, flaw: BadItemError, now: float) -> Settlement:
    """Return the settlement of an event that cannot be sent: a dead letter. That says nothing of its endpoint."""
    facts = {"run_id": claim.run_id, "event": claim.event_id}
    letter = encode_letter(claim.item, flaw.reason, flaw.detail, failed_at=now, **facts).decode()
    return replace(unsent(claim), to="failed", letter=letter)


def _letter(claim: Claim, reason: Reason, detail: str, now: float) -> str:
    """Return the dead letter of an event whose call was made."""
    facts = {"run_id": claim.run_id, "event": claim.event_id, "endpoint": claim.endpoint}
    return encode_letter(claim.item, reason, detail, failed_at=now, **facts).decode()
