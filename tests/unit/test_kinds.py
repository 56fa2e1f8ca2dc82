"""The word under which a failed call is counted: one of few, whatever an endpoint does."""

from __future__ import annotations

import errno
import socket
import ssl

import pytest

from rlm.delivery import outcome as kinds
from rlm.delivery.http import BrokenAnswerError
from tests.each import each


def refused(code):
    """Return the error about a certificate, with OpenSSL's number."""
    error = ssl.SSLCertVerificationError()
    error.verify_code = code
    return error


@each(
    ("error", "kind"),
    [
        (ConnectionRefusedError(), "connection refused"),
        (ConnectionResetError(), "connection cut"),
        (BrokenPipeError(), "connection cut"),
        (TimeoutError(), "no answer in time"),
        (socket.gaierror(-2, "unknown"), "name not found"),
        (UnicodeError(), "name not found"),
        (refused(18), "TLS certificate refused"),
        (refused(10), "TLS certificate expired"),
        (socket.gaierror(socket.EAI_AGAIN, "no resolver"), "no resolver answers"),
        (ssl.SSLError(), "TLS failed"),
        (BrokenAnswerError("no HTTP"), "broken answer"),
        (OSError(errno.EHOSTUNREACH, "no route"), "not reachable"),
    ],
)
def test_each_error_has_its_word(error, kind):
    """The narrower the better."""
    assert kinds.kind_of_error(error) == kind


@pytest.mark.parametrize(
    ("status", "kind"), [(503, "HTTP 503"), (429, "HTTP 429"), (599, "HTTP 5xx"), (477, "HTTP 4xx")]
)
def test_a_status_that_http_does_not_know_shares_its_word(status, kind):
    """So a hostile API makes no more of them than there are."""
    assert kinds.kind_of_status(status) == kind
