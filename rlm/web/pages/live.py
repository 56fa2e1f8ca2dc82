"""The content of pages. A browser asks for its page once a second; all viewers share the documents."""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from threading import Lock
from typing import Final, TypeVar, cast

from rlm.admin import report
from rlm.core.clock import isoformat, system_clock
from rlm.core.documents import Now
from rlm.core.errors import StoreError, StoreGarbledError, StoreRefusingError, StoreUnreachableError
from rlm.ledger.store import Store

T = TypeVar("T")

#: Most documents to keep; the least recently used one is dropped.
_MOST = 200
#: Lets a page notice that another process serves it now; the page then reloads itself.
SERVER: Final = secrets.token_hex(4)


@dataclass
class _Shared:
    """A document for all viewers; one thread at a time reads it, and the others wait for it."""

    lock: Lock = field(default_factory=Lock)
    document: object = None
    good_until: float = float("-inf")


class Documents:
    """Documents of `rlm.admin`, shared by all pages and viewers.

    Every method may be called from any thread, and raises StoreError while Redis is away.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._answered_at: float | None = None
        self._shared: OrderedDict[Hashable, _Shared] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, read: Callable[[Store], T], seconds: float = 0.9) -> T:
        """Return the document that `read` returns, at most `seconds` old. Equal keys share one; do not change it.

        One that takes long to read is kept three times as long as that took.
        """
        with self._lock:
            shared = self._shared.setdefault(key, _Shared())
            self._shared.move_to_end(key)
            while len(self._shared) > _MOST:
                self._shared.popitem(last=False)
        with shared.lock:
            began = system_clock.monotonic()
            if began >= shared.good_until:
                shared.document = read(self.store)
                self._answered_at, now = system_clock.now(), system_clock.monotonic()
                shared.good_until = now + max(seconds, 3 * (now - began))
            return cast("T", shared.document)

    def away(self, error: StoreError) -> str:
        """Return why no page can be read, without the address of Redis; if it is silent, when it answered last."""
        if isinstance(error, StoreGarbledError):
            return "What is in Redis cannot be read; see rlm doctor"
        if not is_silent(error):
            return "Redis refuses what this page needs"
        last = "none since rlm web was started" if self._answered_at is None else isoformat(self._answered_at)[:19]
        return f"Redis does not answer (its last answer: {last})"

    def status(self) -> Now:
        """Return what `rlm status` shows: the open run, or the time between two runs."""
        return self.get("status", report.overview)


def is_silent(error: StoreError) -> bool:
    """Return whether Redis did not answer; after a refusal or a value that cannot be read, somebody may have to act."""
    return isinstance(error, StoreUnreachableError) and not isinstance(error, StoreRefusingError)
