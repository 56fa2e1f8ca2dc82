"""Notices when the clock of Redis steps: windows are stamped with it, so after a step they cannot be trusted."""

from __future__ import annotations

#: Seconds by which the two clocks may part without a step, and by how much more in each second: a clock that NTP slews
#: does half of that (500 ppm, the kernel's bound). One that runs away faster is a step as soon as it adds up.
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
        if self._last is None:
            self._last = low, high, answered_at
            return 0.0
        least, most = self._drifted(answered_at)
        if low > most + TOLERANCE_SECONDS:
            return low - most
        if high < least - TOLERANCE_SECONDS:
            return high - least
        # What both looks allow; a clock that runs away adds up, until it is a step.
        self._last = min(max(low, least), most), max(min(high, most), least), answered_at
        return 0.0

    def _drifted(self, at: float) -> tuple[float, float]:
        """Return between what the clocks may be apart now, by what was seen before."""
        least, most, seen_at = self._last or (0.0, 0.0, at)
        drift = TOLERANCE_SHARE * (at - seen_at)
        return least - drift, most + drift
