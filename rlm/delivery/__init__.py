"""One event from its claim to its settlement, and the end of a run. The names here are those of the HTTP call."""

from __future__ import annotations

from rlm.delivery.connection import Connection, Opener, UnreachableError
from rlm.delivery.http import TOO_MANY_REQUESTS, Dispatcher
from rlm.delivery.outcome import Delivered, Outcome, Rejected, Throttled, Unreachable
from rlm.delivery.request import Request

__all__ = [
    "TOO_MANY_REQUESTS",
    "Connection",
    "Delivered",
    "Dispatcher",
    "Opener",
    "Outcome",
    "Rejected",
    "Request",
    "Throttled",
    "Unreachable",
    "UnreachableError",
]
