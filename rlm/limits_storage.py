"""The windows of RLM's endpoints as a storage of the library `limits`, for other programs that call the same API.

`rlm endpoint share NAME` prints how it is used:

    limiter = MovingWindowRateLimiter(storage_from_string("rlm+redis://127.0.0.1:6379/0?prefix=rlm&guard=0.5"))
    may_call = limiter.hit(Rate(30, 60), "https://api.example.com/rebalance")

`prefix` is `redis.prefix`, `guard` is `run.guard_seconds`. The identifier is the URL of the endpoint. A path that is
not the number of a database is that of a Unix socket: `rlm+redis:///run/valkey.sock`.
"""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any, Final, Never
from urllib.parse import parse_qsl, urlencode

from limits import RateLimitItemPerSecond
from limits.storage import MovingWindowSupport, Storage, storage_from_string
from limits.strategies import MovingWindowRateLimiter
from msgspec.structs import replace

from rlm.core.clock import system_clock
from rlm.core.endpoint import Budget, Endpoint, Limit, Rule, all_limited
from rlm.core.errors import StoreError
from rlm.ledger.connect import SENTINEL_SCHEMES, text
from rlm.ledger.leases import Leases
from rlm.ledger.rules import read_rules
from rlm.ledger.scripts import Access
from rlm.ledger.values import MICROSECONDS
from rlm.ledger.windows import Windows
from rlm.settings.model import QueueSettings, RedisSettings, RunSettings, check_endpoint_url, check_redis_url

__all__ = ["MovingWindowRateLimiter", "Rate", "WindowStorage", "storage_from_string"]

#: Put before the scheme of a URL of Redis.
SCHEME: Final = "rlm+"
_SOCKET = re.compile(r"\Aredis:///(?=[^\d?])")
#: The key that `limits` makes of an item and one identifier: a namespace, the identifier, and the item's rule.
_KEY = re.compile(r"[^/]*/(.+)/[^/]+/[^/]+/[a-z]+")


class Rate(RateLimitItemPerSecond):
    """At most `amount` calls in any `seconds`, which may be a fraction."""

    def __init__(self, amount: int, seconds: float) -> None:
        super().__init__(amount)
        self.multiples = seconds  # type: ignore[assignment]  # limits declares whole seconds, but fractions work


class WindowStorage(Storage, MovingWindowSupport):
    """The windows of endpoints for the moving-window strategy.

    A slot taken here counts for RLM's workers, and one of theirs counts here. It is refused whenever they would not get
    it: beside the item's limit the one in force there holds, and the endpoint's budget; it may rest or be paused.
    """

    STORAGE_SCHEME = [f"{SCHEME}{scheme}" for scheme in ("redis", "rediss", "unix", *SENTINEL_SCHEMES)]  # noqa: RUF012

    def __init__(self, uri: str, wrap_exceptions: bool = False) -> None:
        super().__init__(uri, wrap_exceptions)
        url, _, query = _SOCKET.sub("unix:///", uri.removeprefix(SCHEME)).partition("?")
        parameters = dict(parse_qsl(query))
        prefix = parameters.pop("prefix", RedisSettings().prefix)
        self._run = RunSettings(guard_seconds=float(parameters.pop("guard", RunSettings().guard_seconds)))
        redis = SimpleNamespace(prefix=prefix)
        settings: Any = SimpleNamespace(redis=redis, queue=QueueSettings(), run=self._run, event_types=(), revision="")
        store = Access(settings, check_redis_url(f"{url}?{urlencode(parameters)}" if parameters else url))
        self._store, self._windows, self._leases = store, Windows(store), Leases(store)

    @property
    def base_exceptions(self) -> type[Exception]:
        """What is raised if Redis does not answer; do not assume then that a slot was taken."""
        return StoreError

    def acquire_entry(self, key: str, limit: int, expiry: float, amount: int = 1) -> bool:
        """Take slots; return whether there were so many, and the answer left enough of the guard for the call.

        The slots of a late answer stay taken. Giving up a lease that is another's only hears the clock of Redis, and
        says that it has stepped, if it has.
        """
        endpoint = self._endpoint(key, limit, expiry)
        self._leases.release("")
        if self._store.clock.doubts[1]:
            self._leases.release("")
        asked_at = system_clock.monotonic()
        is_taken = self._windows.take(endpoint, amount) == 0.0
        return is_taken and system_clock.monotonic() <= asked_at + self._run.leaving_seconds

    def get_moving_window(self, key: str, limit: int, expiry: float) -> tuple[float, int]:
        """Return the start of the window that ends when the next slot is free, and how many slots are not free."""
        now_us, looks = self._windows.look(all_limited([self._endpoint(key, limit, expiry)]))
        wait_seconds = max(look.wait_seconds for look in looks.values())
        return now_us / MICROSECONDS + wait_seconds - expiry, limit - min(look.free for look in looks.values())

    def check(self) -> bool:
        """Return whether Redis answers."""
        try:
            return bool(self._store.ask("PING"))
        except StoreError:
            return False

    def _endpoint(self, key: str, limit: int, expiry: float) -> Endpoint:
        """Return the endpoint of a key, with its limits in force and its budget as RLM knows them."""
        parts = _KEY.fullmatch(key)
        url, keys = check_endpoint_url(parts[1] if parts else key), self._store.keys
        item = Endpoint("", url, Limit("", (Rule(limit, expiry),)), timeout_seconds=0.0)
        name = text(self._store.ask("HGET", keys.endpoint(item.window_id), "named") or b"")
        entry = self._store.ask("HGET", keys.rules, name) if name else None
        windows = read_rules(entry).windows if entry else []
        shared = [window.id for window in windows[1:]]
        budget = text(self._store.ask("HGET", keys.endpoint(shared[0]), "named") or b"") if shared else ""
        fields = [f"limit {window_id}" for window_id in (item.window_id, *shared, "")][:2]
        texts = [text(reply or b"") for reply in self._store.ask("HMGET", keys.rules, *fields)]
        own, of_budget = (Limit.parse(each) if each else Limit("", ()) for each in texts)
        own = Limit(own.text, (*own.rules, *item.limit.rules))
        return replace(item, name=name, limit=own, budget=Budget(budget, of_budget) if of_budget.rules else None)

    def _refuse(self, *_arguments: Any, **_named: Any) -> Never:
        """Refuse what would be another window, or would forget calls that others have made."""
        raise NotImplementedError("the windows of RLM serve the moving-window strategy, and nobody may clear them")

    incr = get = get_expiry = reset = clear = _refuse
