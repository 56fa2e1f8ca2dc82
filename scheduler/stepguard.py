"""Notices when the clock of Redis steps: windows are stamped with it, so after a step they cannot be trusted."""

from __future__ import annotations

#: Seconds by which the two clocks may part between two looks without a step, and by which more for each second that
#: lies between them: a clock that NTP slews does at most half of that (500 ppm, the kernel's bound).
TOLERANCE_SECONDS = 0.005
TOLERANCE_SHARE = 0.001


class StepGuard:
    """Compares the clock of Redis with one of this machine that never steps, look by look."""

    def __init__(self) -> None:
        self._last: tuple[float, float, float] | None = None

    def check(self, asked_at: float, redis_us: int, answered_at: float) -> float:
        """Return by how many seconds the clock of Redis has stepped since the last look, 0 for not at all.

        It was read at some moment between `asked_at` and `answered_at` (seconds of the other clock), so the distance
        between the clocks lies in an interval; a step is when two of those are apart. A slow answer widens the
        interval, no more. A step that was found is found again until the moments to come were moved, which takes it
        out of the time that is asked about here.
        """
        redis = redis_us / 1_000_000
        low, high = redis - answered_at, redis - asked_at
        step = self._step_since(low, high, answered_at)
        if not step:
            self._last = low, high, answered_at
        return step

    def _step_since(self, low: float, high: float, answered_at: float) -> float:
        if self._last is None:
            return 0.0
        last_low, last_high, last_answered_at = self._last
        tolerance = TOLERANCE_SECONDS + TOLERANCE_SHARE * (answered_at - last_answered_at)
        if low > last_high + tolerance:
            return low - last_high
        if high < last_low - tolerance:
            return high - last_low
        return 0.0
