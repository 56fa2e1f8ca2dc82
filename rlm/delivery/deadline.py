"""The deadline of a run by this host's clock, as the turns of a worker show it."""

from __future__ import annotations


class DeadlineEstimate:
    """The latest moment that is surely not after the deadline. All moments are in monotonic seconds.

    A turn is answered with the time that is left, by the clock of Redis. When Redis read that clock is unknown: between
    the question and the answer. Counted from the question, the deadline is too early by what the turn waited for Redis,
    so a busy Redis would cut calls that can still be answered. A turn of the same run that waited less knows better.
    """

    def __init__(self) -> None:
        self._known = ("", 0.0)

    def refine(self, run_id: str, asked_at: float, answered_at: float, remaining_seconds: float) -> float:
        """Return the deadline of a run after a turn that was answered with `remaining_seconds`."""
        run_of, deadline = self._known
        earliest, latest = asked_at + remaining_seconds, answered_at + remaining_seconds
        # What this turn excludes is no longer true: the clock of Redis was set, or does not run as this host's does.
        deadline = deadline if run_of == run_id and earliest <= deadline <= latest else earliest
        self._known = run_id, deadline
        return deadline
