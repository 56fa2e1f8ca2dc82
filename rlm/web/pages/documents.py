"""The documents of the commands, each read at most once a second however many pages are open."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

from rlm.admin import report
from rlm.admin.monitoring import Sparing

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from rlm.ledger import Store

T = TypeVar("T")

#: How long a document is shared, seconds. One that takes long to read is kept longer, see `Sparing`.
SHARED_SECONDS: Final = 0.9
#: Documents kept; the one that was not asked for the longest goes.
_MOST = 200


class Documents:
    """What pages are made of: documents of `rlm.admin`, shared by all pages and by all who look at them.

    Every method may be called from any thread, and raises StoreError while Redis is away.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self._kept: OrderedDict[Hashable, _Shared] = OrderedDict()
        self._parts: dict[Hashable, Any] = {}
        self._lock = Lock()

    def part(self, kind: Callable[[Store], T]) -> T:
        """Return the one object of a class that follows the store from look to look, as `DoneCourse` does."""
        with self._lock:
            if kind not in self._parts:
                self._parts[kind] = kind(self.store)
            return cast("T", self._parts[kind])

    def get(self, key: Hashable, find: Callable[[Store], T], seconds: float = SHARED_SECONDS) -> T:
        """Return the document that `find` reads, at most `seconds` old. Equal keys mean the same document.

        A document is shared: nobody may change it.
        """
        with self._lock:
            if key not in self._kept:
                self._kept[key] = _Shared(lambda: find(self.store), seconds)
            self._kept.move_to_end(key)
            while len(self._kept) > _MOST:
                self._kept.popitem(last=False)
            shared = self._kept[key]
        return cast("T", shared.get())

    def status(self) -> dict[str, Any]:
        """Return what `rlm status` shows: the open run, or the time between two runs."""
        return self.get("status", report.overview)


class _Shared:
    """One document, read by one thread at a time; the others wait for it."""

    def __init__(self, find: Callable[[], Any], seconds: float) -> None:
        self._sparing = Sparing(find, seconds)
        self._lock = Lock()

    def get(self) -> Any:
        with self._lock:
            return self._sparing.get()
