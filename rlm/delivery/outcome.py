"""The four outcomes of a call: how answers are classified, words for failures, and what each means for the event."""

from __future__ import annotations

import email.utils
import errno
import re
import socket
import ssl
from collections.abc import Sequence
from datetime import UTC
from enum import StrEnum
from http import HTTPStatus
from typing import Any, Final

from msgspec import structs

from rlm.core.call import CallEnd, Heard, backoff_seconds
from rlm.core.item import Reason, encode_letter
from rlm.delivery.http_message import BrokenAnswerError
from rlm.ledger.turns import Claim, Settlement
from rlm.ledger.values import MICROSECONDS
from rlm.settings.model import RetrySettings

#: A `Retry-After` beyond this many seconds is taken for a mistake and shortened to this.
MAX_RETRY_AFTER_SECONDS = 86_400.0


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
)
#: OpenSSL's number for a certificate that has expired.
_EXPIRED: Final = 10
#: System errors that mean this host cannot call anyone: no route, forbidden by a local rule, or no more descriptors,
#: ports or memory. `EHOSTUNREACH` is not among them, because every host gets it if a neighbour or router reports it.
_NO_ROUTE: Final = {errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.EACCES, errno.EPERM}
_HERE: Final = _NO_ROUTE | {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}


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


def classify(status: int, retry_after: Sequence[str], excerpt: str, seconds: float, now: float) -> Outcome:
    """Return the outcome of a final answer that is no 2xx.

    `retry_after` has all `Retry-After` values. `seconds` counts from sending; `now` is in seconds since 1970.
    """
    text, kind = f"HTTP {status}", kind_of_status(status)
    if status == HTTPStatus.TOO_MANY_REQUESTS or (status == HTTPStatus.SERVICE_UNAVAILABLE and retry_after):
        rest = longest_rest(retry_after, now)
        text += "" if rest is None else f", asked for a rest of {rest:.1f} s"
        return Outcome(text, seconds, kind, CallEnd.THROTTLED, rest_seconds=rest)
    text += f": {excerpt}" if excerpt else ""
    if status < HTTPStatus.INTERNAL_SERVER_ERROR and status not in {408, 425}:
        # Several of these in a row concern the endpoint, or the access to it: the contract lists them.
        return Outcome(text, seconds, kind, CallEnd.REJECTED, of_endpoint=status in {401, 403, 404, 405, 410})
    return Outcome(text, seconds, kind)


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


def longest_rest(values: Sequence[str], now: float) -> float | None:
    """Return the longest rest of an answer's `Retry-After` values; a proxy may have added one, and both count."""
    rests = (parse_retry_after(value, now) for value in values)
    return max((rest for rest in rests if rest is not None), default=None)


def settlement_of(claim: Claim, outcome: Outcome, retry: RetrySettings, now: float, *, cut: bool = False) -> Settlement:
    """Return what becomes of an event after its call, `now` by the clock of Redis; `cut`: the run's deadline ended it.

    What is missing is what only the lane knows: the stamp, how long the call took, from when its slot counts.
    """
    match outcome.finish:
        case CallEnd.COMPLETED:
            return _made(claim, outcome, to="completed", health="well", fields=claim.counted())
        case CallEnd.THROTTLED:
            rest = outcome.rest_seconds
            asked_us = -1 if rest is None else round(rest * MICROSECONDS)
            return _made(claim, outcome, to="ready", health="refusal", why=outcome.kind, asked_us=asked_us)
        case CallEnd.REJECTED:
            health = "failure" if outcome.of_endpoint else "well"
            letter = _letter(claim, Reason.REJECTED, f"{claim.endpoint} answered {outcome.text}", now)
            fate: dict[str, Any] = {"health": health, "why": outcome.kind, "letter": letter}
            return _made(claim, outcome, to="failed", fields=claim.counted(), **fate)
        case _ if cut:
            heard = structs.replace(outcome, text=f"{outcome.text}, cut by the run's deadline", kind=Kind.DEADLINE)
            return _made(claim, heard, to="backoff", fields=claim.counted())
        case _:
            return _try_again(claim, outcome, retry, now)


def _try_again(claim: Claim, outcome: Outcome, retry: RetrySettings, now: float) -> Settlement:
    """Return the settlement of an event whose call failed: retried, left over, or dead once all runs are spent.

    If this host cannot call anyone, that spends no attempt.
    """
    tries = claim.tries + 1
    fate: dict[str, Any] = {"health": "failure", "why": outcome.kind, "unconnected": outcome.unsent}
    fate |= {"to": "backoff", "delay_us": round(backoff_seconds(tries) * MICROSECONDS), "sent": not outcome.unsent}
    if not outcome.here:
        if tries >= retry.max_attempts:
            fate["to"] = "spent" if claim.runs + 1 < retry.max_runs else "failed"
        fate["fields"] = claim.counted(spends_run=fate["to"] == "spent")
        if fate["to"] == "failed":
            last = f"the last at {claim.endpoint}: {outcome.text}"
            why = f"{tries} attempts in each of {retry.max_runs} runs failed, {last}"
            fate["letter"] = _letter(claim, Reason.ATTEMPTS_SPENT, why, now)
    return _made(claim, outcome, **fate)


def _made(claim: Claim, outcome: Outcome, *, sent: bool = True, **fate: Any) -> Settlement:
    """Return the settlement of a call that was made, with its entry in the trail."""
    event, finish, entry = claim.event_id, outcome.finish, claim.entry(outcome.finish, outcome)
    places: dict[str, Any] = {"endpoint": claim.endpoint, "stamp": claim.stamp, "kind": outcome.kind}
    return Settlement(event, claim.number, **places, finish=finish, entry=entry, sent=sent, **fate)


def unsent(claim: Claim) -> Settlement:
    """Return the settlement of a call that was not made: its slot is given back, and its event waits again."""
    return Settlement(claim.event_id, claim.number, claim.endpoint, claim.stamp, "ready")


def is_given_back(settlement: Settlement) -> bool:
    """Return whether it is of a call that was not made, and not tried either."""
    return settlement.to == "ready" and settlement.finish is None


def _letter(claim: Claim, reason: Reason, detail: str, now: float) -> str:
    """Return the dead letter of an event whose call was made."""
    facts = {"run_id": claim.run_id, "event": claim.event_id, "endpoint": claim.endpoint}
    return encode_letter(claim.item, reason, detail, failed_at=now, **facts).decode()
