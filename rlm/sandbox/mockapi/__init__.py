"""The mock API, which enforces limits strictly: RLM is tried on it, and judged by it."""

from __future__ import annotations

from rlm.sandbox.mockapi.arrivals import Arrival, EndpointSummary, exceeded, recount
from rlm.sandbox.mockapi.endpoint import Faults
from rlm.sandbox.mockapi.server import MockApi

__all__ = ["Arrival", "EndpointSummary", "Faults", "MockApi", "exceeded", "recount"]
