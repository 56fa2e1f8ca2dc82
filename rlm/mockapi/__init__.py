"""The API that enforces limits strictly: what RLM is tried out on, and judged by."""

from __future__ import annotations

from rlm.mockapi.arrivals import Arrival, EndpointSummary, exceeded, recount
from rlm.mockapi.faults import Faults
from rlm.mockapi.server import MockApi

__all__ = ["Arrival", "EndpointSummary", "Faults", "MockApi", "exceeded", "recount"]
