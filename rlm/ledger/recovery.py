"""Recovery of events whose worker died or whose type is no longer configured, and dropping of leftovers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rlm.core.item import Reason, encode_letter, is_type_name, type_of
from rlm.ledger.connect import text, translated
from rlm.ledger.held import read_held
from rlm.ledger.scripts import CHUNK, Access, Part
from rlm.ledger.values import reading

if TYPE_CHECKING:
    from rlm.ledger.archive import Archivist

#: An event that so many workers died of becomes a dead letter, because it may be what kills them.
POISON_DEATHS = 3


class Recovery(Part):
    """Recovers events. Every method may be repeated; the second time changes nothing."""

    def __init__(self, store: Access, archivist: Archivist) -> None:
        super().__init__(store)
        self._archivist = archivist

    def fail_unknown(self, token: int, run_id: str, type_name: str, goes_on: Callable[[], bool] = lambda: True) -> int:
        """Make dead letters of the ready events of a type that is no longer configured; return how many.

        Because there may be very many, it stops after a chunk when `goes_on` returns False, and when dead letters
        cannot be archived.
        """
        failed: int = 0
        detail = f"{type_name!r} is no longer a configured type"
        while True:
            ids = list(map(text, self._ask("ZRANGE", self._keys.ready(type_name), 0, CHUNK - 1)))
            letters = self._letters(ids, Reason.UNKNOWN_TYPE, detail, run_id)
            calls = [self._removal(event_id, token, letter) for event_id, letter in letters.items()]
            failed += sum(self._run_each("remove_ready", calls))
            self._archivist.step()
            if not ids or self._archivist.is_refused or not goes_on():
                return failed

    def drop(self, event_ids: Sequence[str]) -> tuple[int, bool]:
        """Remove and forget leftover events.

        Return how many were removed, and whether a run is open, in which case it owns all leftovers.
        """
        replies = self._run_each("remove_ready", [self._removal(event_id) for event_id in event_ids])
        return replies.count(1), -1 in replies

    @translated()
    def reap(self, worker_id: str, *, died: bool = True) -> int:
        """Make ready what the lanes of a dead worker held; its calls count as sent now. Return how many.

        Unless it `died`, no death is counted, because it was ended with all others and not killed by an event.
        """
        held = (reading(read_held, raw, worker_id, None) for raw in self._hgetall(self._keys.held(worker_id)).values())
        ids = [call.event_id for call in held if call is not None]
        run_id = text(self._ask("HGET", self._keys.run, "run_id") or b"") or None
        letters = self._letters(ids, Reason.POISON, f"{POISON_DEATHS} workers died while they had it", run_id)
        taken = self._run(
            "reap",
            failed=self._keys.failed,
            worker=worker_id,
            death=int(died),
            poison=POISON_DEATHS,
            letters=letters,
            dedupe_ms=self._dedupe_ms,
        )
        return int(taken)

    @translated()
    def adopt(self, cursor: int) -> tuple[int, list[str]]:
        """Look at some of all events, from a cursor of SCAN on; put back those that are in no set of the ledger.

        Return the next cursor, 0 once all were looked at, and the events that were put back: a key was deleted, or a
        fail-over lost writes, and nothing else would find them.
        """
        begin = self._keys.event("")
        following, keys = self._ask("SCAN", cursor, "MATCH", f"{begin}*", "COUNT", CHUNK)
        ids = [name for key in keys if is_type_name(type_of(name := text(key).removeprefix(begin)).encode())]
        adopted = self._run("adopt", ids=ids) if ids else []
        return int(following), list(map(text, adopted))

    def _removal(self, event_id: str, token: int | str = "", letter: str = "") -> dict[str, Any]:
        return {
            "failed": self._keys.failed,
            "token": token,
            "event_id": event_id,
            "dedupe_ms": self._dedupe_ms,
            "letter": letter,
        }

    def _letters(self, event_ids: Sequence[str], reason: Reason, detail: str, run_id: str | None) -> dict[str, str]:
        """Return the dead letters of events by id; one whose key holds no event has the item `null`."""
        failed_at = self._store.now()
        pipeline = self._client.pipeline(transaction=False)
        for event_id in event_ids:
            pipeline.hget(self._keys.event(event_id), "item")
        with translated(self._client):
            replies = pipeline.execute(raise_on_error=False)
        items = [reply if isinstance(reply, bytes) else b"null" for reply in replies]
        origin: dict[str, Any] = {"failed_at": failed_at, "run_id": run_id}
        return {
            event_id: encode_letter(item, reason, detail, event=event_id, **origin).decode()
            for event_id, item in zip(event_ids, items, strict=True)
        }
