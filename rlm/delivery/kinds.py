"""The few short words in which calls that went wrong are counted, whatever an endpoint does. Pure."""

from __future__ import annotations

import socket
import ssl
from http import HTTPStatus
from typing import Final

from rlm.delivery.answer import BrokenAnswerError

REFUSED, NO_ANSWER, CUT, BROKEN = "connection refused", "no answer in time", "connection cut", "broken answer"
NO_NAME, NO_WAY = "name not found", "not reachable"
BAD_CERTIFICATE, NO_TLS, BAD_HEADER = "TLS certificate refused", "TLS failed", "a header that HTTP does not allow"
#: The run's deadline came first, or the worker of the call was lost: neither says anything of the endpoint.
DEADLINE, WORKER_LOST = "cut by the deadline", "worker lost"

#: By the error, the narrower class first.
_OF_ERRORS: Final = (
    (BrokenAnswerError, BROKEN),
    (TimeoutError, NO_ANSWER),
    (ConnectionRefusedError, REFUSED),
    (ConnectionError, CUT),
    (ssl.SSLCertVerificationError, BAD_CERTIFICATE),
    (ssl.SSLError, NO_TLS),
    (socket.gaierror, NO_NAME),
    (UnicodeError, NO_NAME),
)
_KNOWN: Final = frozenset(map(int, HTTPStatus))


def of_error(error: BaseException) -> str:
    """Return the word for what kept a call from being answered."""
    return next((kind for errors, kind in _OF_ERRORS if isinstance(error, errors)), NO_WAY)


def of_status(status: int) -> str:
    """Return the word for an answer; those that HTTP does not know share one, so that there are not ever more."""
    return f"HTTP {status}" if status in _KNOWN else f"HTTP {status // 100}xx"
