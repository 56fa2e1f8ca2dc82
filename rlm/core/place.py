"""Where an event is, in one word."""

from __future__ import annotations

from enum import StrEnum


class Place(StrEnum):
    """Where an event is; the values are what the JSON shows."""

    QUEUED = "queued"
    PENDING = "pending"
    RELEASED = "released"
    IN_FLIGHT = "in_flight"
    BACKING_OFF = "backing_off"
    SPENT = "spent"
    LEFTOVER = "leftover"
    RETRIED = "retried"
    COMPLETED = "completed"
    FAILED = "failed"
    #: In the ledger and yet nowhere: that would be a fault of RLM.
    NOWHERE = "nowhere"
