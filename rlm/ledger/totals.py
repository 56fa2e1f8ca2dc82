"""The totals over all runs, the open one included, as of one instant: they never go back while Redis keeps them."""

from __future__ import annotations

import threading
from collections import Counter
from typing import TYPE_CHECKING, cast

from rlm.core.tally import of_calls
from rlm.ledger.connect import ESCAPED, translated
from rlm.ledger.expected import read_completed

if TYPE_CHECKING:
    import redis

    from rlm.ledger.keys import Keys


class Totals:
    """Reads the totals. Of the open run's calls each look reads what came since the last: give a process one of these.

    It may be used by several threads.
    """

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._lock = threading.Lock()
        self._forget("")

    def _forget(self, run_id: str) -> None:
        """Begin with the calls of this run at the first."""
        self._run_id = run_id
        self._read = 0
        self._last: bytes | None = None
        self._calls: Counter[str] = Counter()

    @translated()
    def look(self) -> Counter[str]:
        """Return the totals, the tally of the open run and what its calls add, all of one instant.

        Raises:
            StoreError: Redis did not answer.
        """
        with self._lock:
            while True:
                found = self._look()
                if found is not None:
                    return found

    def _look(self) -> Counter[str] | None:
        """Read all at once; None where that is to be done again.

        It is where another run was opened or closed between asking which it is and reading, and where the call that was
        read last is not where it was: Redis came back as it was a while ago.
        """
        keys = self._keys
        with translated(self._client):
            run_id = (cast("bytes | None", self._client.get(keys.current)) or b"").decode(errors=ESCAPED)
            if run_id != self._run_id:
                self._forget(run_id)
            pipeline = self._client.pipeline(transaction=True)
            pipeline.get(keys.current)
            pipeline.hgetall(keys.totals)
            pipeline.hgetall(keys.tally(run_id))
            pipeline.lrange(keys.timings(run_id), max(0, self._read - 1), -1)
            current, totals, tally, timings = pipeline.execute()
        if (current or b"").decode(errors=ESCAPED) != run_id:
            return None
        if self._last is not None and timings[:1] != [self._last]:
            self._forget(run_id)
            return None
        news = timings if self._last is None else timings[1:]
        self._calls.update(of_calls(map(read_completed, news)))
        self._read += len(news)
        self._last = timings[-1] if timings else None
        found = Counter(self._calls)
        for fields in (totals, tally):
            for name, number in fields.items():
                found[name.decode(errors=ESCAPED)] += int(number)
        return found
