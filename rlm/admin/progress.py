"""How the open run has gone so far: by when how many of its events were completed."""

from __future__ import annotations

from itertools import accumulate
from threading import Lock
from typing import TYPE_CHECKING, Any, Final

from rlm.core.clock import isoformat

if TYPE_CHECKING:
    from rlm.core.run import Run
    from rlm.ledger import Store

#: The most points of a course: enough for a picture, whatever the number of events.
MOST_POINTS: Final = 240


class DoneCourse:
    """Follows the open run; after its end it has that of the run seen last.

    Each look costs what has happened since the one before. It may be used by several threads.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = Lock()
        self._run: Run | None = None
        self._read = 0
        #: By part of the window: when the last event in it was completed, seconds from the start, and how many were.
        self._parts: dict[int, tuple[float, int]] = {}

    def look(self) -> dict[str, Any] | None:
        """Return the course of the open run or of the last one seen; None if none was.

        `points` are pairs: seconds from the start, and how many events were completed by then, the last one with all.
        `first_call_seconds` is when its first call was released, None before.
        """
        with self._lock:
            run = self._store.runs.current()
            if run is not None:
                self._read_on(run)
            if self._run is None:
                return None
            return self._as_json(self._run)

    def _read_on(self, run: Run) -> None:
        if self._run is None or self._run.id != run.id:
            self._read, self._parts = 0, {}
        self._run = run
        news = self._store.measures.completed(run.id, self._read)
        self._read += len(news)
        for call in news:
            at = max(0.0, run.moment(call.at_us) - run.started_at)
            part = int(at / run.window_seconds * MOST_POINTS)
            last, number = self._parts.get(part, (0.0, 0))
            self._parts[part] = max(last, at), number + 1

    def _as_json(self, run: Run) -> dict[str, Any]:
        parts = [self._parts[one] for one in sorted(self._parts)]
        done = accumulate(number for _, number in parts)
        first = run.first_release_at
        return {
            "run_id": run.id,
            "started_at": isoformat(run.started_at),
            "window_seconds": run.window_seconds,
            "first_call_seconds": None if first is None else round(max(0.0, first - run.started_at), 3),
            "points": [(round(at, 2), number) for (at, _), number in zip(parts, done, strict=True)],
        }
