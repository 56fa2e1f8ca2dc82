"""Recovery of events that were lost on the way: with a worker, a message or a type's configuration."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING

from rlm.core import trail
from rlm.core.errors import StoreGarbledError
from rlm.core.item import Reason, encode_letter, type_of
from rlm.core.text import safe_line
from rlm.core.trail import CallEnd, Heard
from rlm.ledger.claims import KEEP_SECONDS, CallNote, find_note, waits_alone
from rlm.ledger.connect import text, translating
from rlm.ledger.scripts import CHUNK, Named, Part
from rlm.ledger.values import reading, whole

if TYPE_CHECKING:
    from rlm.ledger.archive import Archivist
    from rlm.ledger.front import StoreFront

#: An event in whose lease this many workers died becomes a dead letter, because it may be what kills them. One death
#: earlier it is carried alone, so that no other event dies with it.
POISON_DEATHS = 3
#: The score of a pending event that cannot be sent, which `take_turn` sets.
OUT_OF_THE_WAY = 2**53 - 1
#: What happened to a worker, by the reason for which its events are taken back.
_LOST = {"dead": "died", "ended": "was ended"}


class Recovery(Part):
    """Recovers events. Every method may be repeated; the second time changes nothing."""

    def __init__(self, store: StoreFront, archivist: Archivist) -> None:
        super().__init__(store)
        self._archivist = archivist

    def condemn(self, token: int, run_id: str, name: str, event_id: str) -> None:
        """Make a pending event that cannot be sent a dead letter; its hash is missing, or not that of an event."""
        (item,) = self._fields(event_id, "item")
        detail = f"{safe_line(self._keys.event(event_id))} is not the hash of an event that can be sent"
        why = item or b"null", Reason.BAD_VALUE, detail
        self._run("fail_pending", **self._failing(token, run_id, name, event_id, why))

    def fail_unknown(self, token: int, run_id: str, type_name: str, goes_on: Callable[[], bool] = lambda: True) -> int:
        """Make dead letters of the pending events of a type that is no longer configured; return how many.

        Because there may be very many, it stops after a chunk when `goes_on` returns False, and when dead letters
        cannot be archived.
        """
        failed: int = 0
        detail = f"{type_name!r} is no longer a configured type"
        while True:
            ids = list(map(text, self._ask("ZRANGE", self._keys.pending(type_name), 0, CHUNK - 1)))
            items = self._batch(("HGET", self._keys.event(one), "item") for one in ids)
            calls = [
                self._failing(token, run_id, type_name, one, (item or b"null", Reason.UNKNOWN_TYPE, detail))
                for one, item in zip(ids, items, strict=True)
            ]
            failed += sum(self._run_each("fail_pending", calls))
            self._archivist.step(token)
            if not ids or self._archivist.is_refused or not goes_on():
                return failed

    def _failing(self, token: int, run_id: str, name: str, event_id: str, why: tuple[bytes, Reason, str]) -> Named:
        """Return the `fail_pending` call for an event; `why` is the item, the reason and the detail for its letter."""
        keys = self._keys
        return {
            "lease": keys.lease,
            "event": keys.event(event_id),
            "pending": keys.pending(name),
            "tally": keys.tally(run_id),
            "failed": keys.failed,
            "token": token,
            "event_id": event_id,
            "type_name": name,
            "dedupe_ms": self._dedupe_ms,
            "letter": encode_letter(*why, failed_at=self._now(), run_id=run_id, event=event_id),
        }

    def _fields(self, event_id: str, *fields: str) -> list[bytes | None]:
        """Return fields of an event, all None if its key is not an event's."""
        try:
            return list(self._ask("HMGET", self._keys.event(event_id), *fields))
        except StoreGarbledError:
            return [None] * len(fields)

    def promote(self, types: Iterable[str], now_us: int) -> int:
        """Make events pending again whose back-off is over; return how many."""
        names = list(types)
        due = self._due(map(self._keys.backoff, names), now_us)
        calls = [
            {
                "backoff": self._keys.backoff(name),
                "pending": self._keys.pending(name),
                "events": [{"id": one, "key": self._keys.event(one)} for one in ids],
            }
            for name, ids in zip(names, due, strict=True)
            if ids
        ]
        return sum(self._run_each("promote_events", calls))

    def void_releases(self, token: int) -> list[str]:
        """Take back released calls that no lane has made in time; return the endpoint of each."""
        keys = self._keys
        return list(map(text, self._run("void_releases", lease=keys.lease, releases=keys.releases, token=token)))

    def condemn_unsound(self, token: int, run_id: str, types: Iterable[str]) -> None:
        """Make dead letters of the pending events that lanes found impossible to send."""
        names = list(types)
        zsets = map(self._keys.pending, names)
        found = self._batch(("ZRANGEBYSCORE", zset, OUT_OF_THE_WAY, "+inf", "LIMIT", 0, CHUNK) for zset in zsets)
        for name, ids in zip(names, found, strict=True):
            for event_id in ids:
                self.condemn(token, run_id, name, text(event_id))

    def drop(self, event_ids: Sequence[str]) -> tuple[int, bool]:
        """Remove and forget leftover events.

        Return how many were removed, and whether a run is open, in which case it owns all leftovers.
        """
        keys = self._keys
        calls = [
            {
                "current": keys.current,
                "event": keys.event(event_id),
                "pending": keys.pending(name),
                "runs": keys.runs,
                "dropped": keys.dropped,
                "event_id": event_id,
                "type_name": name,
            }
            for event_id, name in zip(event_ids, map(type_of, event_ids), strict=True)
        ]
        replies = self._run_each("drop_pending", calls)
        return replies.count(1), -1 in replies

    def orphan_worker(self, worker_id: str, *, died: bool = True) -> int:
        """Take back all events that a dead worker had claimed; its slots stay blocked from now. Return how many.

        Unless it `died`, no death is counted, because it was ended with all others and not killed by an event.
        """
        when, calls = "dead" if died else "ended", self._hgetall(self._keys.calls(worker_id))
        return sum(self._take_back(text(event_id), worker_id, call, when) for event_id, call in calls.items())

    def orphan_expired(self, types: Iterable[str], now_us: int, *, closing: bool = False) -> int:
        """Take back events with expired leases, of frozen or lost workers; return how many.

        While a run is `closing` no death is counted, because Redis was away past the lease and the deadline.
        """
        taken = 0
        for event_id in chain.from_iterable(self._due(map(self._keys.inflight, types), now_us, -now_us)):
            owner = self._fields(event_id, "owner")[0] or b""
            call = self._ask("HGET", self._keys.calls(text(owner)), event_id) or b""
            taken += self._take_back(event_id, text(owner), call, "closing" if closing else "expired")
        return taken

    @translating
    def _take_back(self, event_id: str, worker_id: str, call: bytes, when: str) -> int:
        keys, name, note = self._keys, type_of(event_id), find_note(call) or CallNote("", "", "")
        if waits_alone(call):  # its lane had not begun to carry it, so another event may have killed the worker
            when = {"dead": "ended", "expired": "closing"}.get(when, when)
        run = text(self._ask("GET", keys.current) or b"")
        item, attempt = self._fields(event_id, "item", "attempt")
        number = 1 + reading(whole, attempt, keys.event(event_id), 0)
        heard = Heard(f"nobody knows: its worker {_LOST.get(when, 'froze, or lost Redis')}")
        why = f"{POISON_DEATHS} workers died or froze while they had it"
        called, at = {"endpoint": note.endpoint} if note.endpoint else {}, self._now()
        letter = encode_letter(
            item or b"null", Reason.POISON, why, failed_at=at, run_id=run or None, event=event_id, **called
        )
        entry = trail.encode(run, number, note.endpoint, CallEnd.UNKNOWN, heard, worker_id)
        taken = self._run(
            "orphan_event",
            event=keys.event(event_id),
            inflight=keys.inflight(name),
            pending=keys.pending(name),
            calls=keys.calls(worker_id),
            tally=keys.tally(run),
            failed=keys.failed,
            event_id=event_id,
            worker=worker_id,
            call=call,
            stamp=note.stamp,
            endpoint=note.endpoint,
            when=when,
            type_name=name,
            windows=[{"window": keys.window(one), "moved": keys.moved(one)} for one in note.window_ids],
            dedupe_ms=self._dedupe_ms,
            poison=POISON_DEATHS,
            letter=letter,
            entry=entry,
            kept_ms=KEEP_SECONDS * 1000,
        )
        return bool(taken)

    def return_unsettled(self, run_id: str, types: Sequence[str]) -> bool:
        """Make everything pending again that a finishing run did not settle; return False if it is not finishing.

        All types share the same round trips.
        """
        keys = self._keys
        holders = [(name, holder) for name in types for holder in keys.holders(name)]
        while True:
            found = self._batch(("ZRANGE", holder, 0, CHUNK - 1) for _, holder in holders)
            held = {of: [text(one) for one in ids] for of, ids in zip(holders, found, strict=True) if ids}
            if not held:
                return True
            sent = {holder for name, holder in held if holder == keys.inflight(name)}
            cut = self._cut_entries(run_id, [one for (_, holder), ids in held.items() if holder in sent for one in ids])
            calls = [
                {
                    "current": keys.current,
                    "run": keys.run(run_id),
                    "holder": holder,
                    "pending": keys.pending(name),
                    "run_id": run_id,
                    "sent": int(holder in sent),
                    "events": [{"id": one, "key": keys.event(one), "entry": cut.get(one, "")} for one in ids],
                }
                for (name, holder), ids in held.items()
            ]
            if min(self._run_each("return_unsettled", calls)) < 0:
                return False
            if all(len(ids) < CHUNK for ids in held.values()):
                return True

    @translating
    def _cut_entries(self, run_id: str, event_ids: Sequence[str]) -> dict[str, str]:
        """Return the trail entries of calls that may be under way while their run is closed, by event."""
        keys = self._keys
        found = self._batch(("HMGET", keys.event(one), "owner", "attempt") for one in event_ids)
        owners = [text(owner or b"") for owner, _ in found]
        notes = self._batch(("HGET", keys.calls(by), one) for by, one in zip(owners, event_ids, strict=True))
        heard = Heard("nobody knows: its run was closed before it was answered")
        entries = {}
        for event_id, owner, (_, attempt), raw in zip(event_ids, owners, found, notes, strict=True):
            endpoint = call.endpoint if (call := find_note(raw)) else ""
            number = 1 + reading(whole, attempt, keys.event(event_id), 0)
            entries[event_id] = trail.encode(run_id, number, endpoint, CallEnd.UNKNOWN, heard, owner).decode()
        return entries

    def _due(self, zsets: Iterable[str], until_us: int, since_us: int = 0) -> list[list[str]]:
        """Return the due events of each zset, at most a chunk each, in one round trip."""
        found = self._batch(("ZRANGEBYSCORE", one, since_us, until_us, "LIMIT", 0, CHUNK) for one in zsets)
        return [[text(one) for one in ids] for ids in found]
