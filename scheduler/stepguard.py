"""Notices when the clock of Redis steps: windows are stamped with it, so after a step they cannot be trusted."""

from __future__ import annotations

#: Seconds by which the two clocks may part between two looks without a step: a slewed clock does that much.
TOLERANCE_SECONDS = 0.005


class StepGuard:
    """Compares the clock of Redis with this process's monotonic clock, look by look."""

    def __init__(self) -> None:
        self._last: tuple[float, float] | None = None

    def check(self, asked_at: float, redis_us: int, answered_at: float) -> float:
        """Return by how many seconds the clock of Redis has stepped since the last look, 0 for not at all.

        It was read at some moment between `asked_at` and `answered_at` (monotonic seconds), so the distance between the
        clocks lies in an interval; a step is when two of those are apart. A slow answer widens the interval, no more.
        """
        redis = redis_us / 1_000_000
        low, high = redis - answered_at, redis - asked_at
        last, self._last = self._last, (low, high)
        if last is None:
            return 0.0
        if low > last[1] + TOLERANCE_SECONDS:
            return low - last[1]
        if high < last[0] - TOLERANCE_SECONDS:
            return high - last[0]
        return 0.0
