"""The HTTP call: one event to one endpoint, and one classified outcome. Knows nothing of Redis."""

from __future__ import annotations

from rlm.delivery.connection import Connection, Opener, UnreachableError
from rlm.delivery.http import Dispatcher
from rlm.delivery.outcome import TOO_MANY_REQUESTS, Delivered, Outcome, Rejected, Throttled, Unreachable
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
