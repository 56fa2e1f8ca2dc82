"""How many events of a type are where, at one moment."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Counts:
    """Events of one type by where they are.

    `pending` are those that may be released now; `boarding` are those among `inflight` that have no slot yet.
    """

    pending: int = 0
    released: int = 0
    inflight: int = 0
    backoff: int = 0
    spent: int = 0
    boarding: int = 0

    @property
    def unsettled(self) -> int:
        """All of them."""
        return self.pending + self.released + self.inflight + self.backoff + self.spent

    @property
    def open(self) -> int:
        """Those that this run may still send."""
        return self.unsettled - self.spent
