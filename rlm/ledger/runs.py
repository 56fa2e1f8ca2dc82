"""Runs and their records: open one, move it on, close it exactly once, look back."""

from __future__ import annotations

import logging
import math
import secrets
from typing import TYPE_CHECKING, Any, cast

import msgspec

from rlm.core import trail
from rlm.core.errors import StoreGarbledError
from rlm.core.run import Run, State, Trigger
from rlm.core.text import safe_line
from rlm.core.trail import CallEnd, Heard
from rlm.ledger.connect import ESCAPED, names_of, translated
from rlm.ledger.events import CHUNK
from rlm.ledger.scripts import Script
from rlm.ledger.sound import is_record

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import redis

    from rlm.ledger.keys import Keys

log = logging.getLogger(__name__)

#: Milliseconds the answer to a request is kept for the one who asked.
_REPLY_MS = 60_000


class Runs:
    """The open run, of which there is one at the most, and the records of those that are closed."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._open = Script("open_run")
        self._advance = Script("advance_run")
        self._cancel = Script("cancel_run")
        self._return_unsettled = Script("return_unsettled")
        self._close = Script("close_run")
        self._trim = Script("trim_records")
        self._restore = Script("restore_run")
        self._restate = Script("restate_tally")

    def open(self, token: int, run: Run, types: Sequence[str]) -> str:
        """Open `run`, carrying over what is unsettled of `types`; return the id of the run that is open now.

        That is another one's where one was open already. Raises FencedError for a `token` that is not the lease's.
        """
        keys = self._keys
        fields: dict[str, str | int] = {
            "state": run.state,
            "trigger": run.trigger,
            "started_at": repr(run.started_at),
            "deadline": repr(run.deadline),
            "deadline_us": run.deadline_us,
            "window_seconds": repr(run.window_seconds),
            "revision": run.revision,
            "tick": repr(run.tick),
            **({"late": msgspec.json.encode(run.late).decode()} if run.late else {}),
            **({} if run.ever_taken is None else {"ever_taken": run.ever_taken}),
        }
        args: list[str | int] = [token, run.id, len(fields)]
        for name, value in fields.items():
            args += [name, value]
        per_type = [key for name in types for key in (keys.pending(name), keys.retried(name))]
        reply = self._open(
            self._client, [keys.lease, keys.current, keys.run(run.id), keys.tally(run.id), *per_type], [*args, *types]
        )
        return cast("bytes", reply).decode(errors=ESCAPED)

    @translated()
    def current(self) -> Run | None:
        """Return the open run, or None."""
        with translated(self._client):
            run_id = cast("bytes | None", self._client.get(self._keys.current))
            if run_id is None:
                return None
            fields = cast("dict[bytes, bytes]", self._client.hgetall(self._keys.run(run_id.decode(errors=ESCAPED))))
        return _read_run(run_id.decode(errors=ESCAPED), fields) if fields else None

    def left_open(self) -> list[str]:
        """Name the runs of which there is a hash that can be read, the newest first, whatever is open."""
        with translated(self._client):
            found = names_of(self._client, self._keys.family("run"))
        ids = sorted((one.rpartition(":")[2] for one in found), reverse=True)
        return [run_id for run_id in ids if self._is_readable(run_id)]

    def _is_readable(self, run_id: str) -> bool:
        try:
            with translated(self._client):
                _read_run(run_id, cast("dict[bytes, bytes]", self._client.hgetall(self._keys.run(run_id))))
        except StoreGarbledError:
            return False
        return True

    def restore(self, token: int, run_id: str) -> bool:
        """Make a run the open one again of which only that is lost; False where one is open.

        Raises FencedError for a `token` that is not the lease's.
        """
        return bool(self._restore(self._client, [self._keys.lease, self._keys.current], [token, run_id]))

    def restate(self, token: int, run_id: str, types: Sequence[str]) -> bool:
        """State anew what the open run carried over, such that its books balance; False when it is not open.

        Raises FencedError for a `token` that is not the lease's.
        """
        keys = self._keys
        zsets = [key for name in types for key in (keys.pending(name), *keys.holders(name))]
        names = [keys.lease, keys.current, keys.tally(run_id), *zsets]
        return bool(self._restate(self._client, names, [token, run_id, *types]))

    def list_again(self) -> None:
        """Write the list of runs anew, where it was lost, by the ids of the records, which sort by time."""
        with translated(self._client):
            ids = sorted(cast("list[bytes]", self._client.hkeys(self._keys.records)), reverse=True)
            if ids and not self._client.exists(self._keys.runs):
                self._client.rpush(self._keys.runs, *ids)

    def is_open(self, run_id: str) -> bool:
        """Tell whether this is the open run."""
        with translated(self._client):
            return cast("bytes | None", self._client.get(self._keys.current)) == run_id.encode()

    def advance(self, token: int, run_id: str, state: State, **fields: str | float) -> bool:
        """Move the open run to `state` and write `fields`; False when it is not open any more.

        Raises FencedError for a `token` that is not the lease's.
        """
        args: list[str | int | float] = [token, run_id, state]
        for name, value in fields.items():
            args += [name, value]
        return bool(self._advance(self._client, [self._keys.lease, self._keys.current, self._keys.run(run_id)], args))

    def cancel(self, run_id: str) -> State | None:
        """Ask the conductor to end a run now; return the state it was in, None when it is not open."""
        state = self._cancel(self._client, [self._keys.current, self._keys.run(run_id)], [run_id])
        return State(state.decode(errors=ESCAPED)) if state else None

    def return_unsettled(self, run_id: str, types: Sequence[str]) -> bool:
        """Make everything pending again that a finishing run did not settle; False when it is no longer finishing."""
        for name in types:
            for holder in self._keys.holders(name):
                if not self._empty_holder(run_id, name, holder):
                    return False
        return True

    def _empty_holder(self, run_id: str, name: str, holder: str) -> bool:
        keys = self._keys
        while True:
            with translated(self._client):
                ids = [
                    one.decode(errors=ESCAPED) for one in cast("list[bytes]", self._client.zrange(holder, 0, CHUNK - 1))
                ]
            if not ids:
                return True
            sent = holder == keys.inflight(name)
            args: list[str | int | bytes] = [run_id, int(sent)]
            for event_id in ids:
                args += [event_id, self._cut_entry(run_id, event_id) if sent else ""]
            returned = self._return_unsettled(
                self._client, [keys.current, keys.run(run_id), holder, keys.pending(name), *map(keys.event, ids)], args
            )
            if returned < 0:
                return False

    @translated()
    def _cut_entry(self, run_id: str, event_id: str) -> bytes:
        """Write what the trail says of a call that may be under way while its run is closed."""
        with translated(self._client):
            told = cast("list[bytes | None]", self._client.hmget(self._keys.event(event_id), "owner", "attempt"))
            owner, attempt = told
            owner_id = (owner or b"").decode(errors=ESCAPED)
            note = cast("bytes | None", self._client.hget(self._keys.calls(owner_id), event_id))
        endpoint = [*(note or b"").decode(errors=ESCAPED).split("|"), "", ""][2]
        heard = Heard("nobody knows: its run was closed before it was answered")
        return trail.encode(run_id, int(attempt or 0) + 1, endpoint, CallEnd.UNKNOWN, heard, (owner or b"").decode())

    def close(
        self,
        run_id: str,
        record: Mapping[str, Any],
        types: Sequence[str],
        *,
        wanted: int,
        measured: Mapping[str, bytes] | None = None,
        added: Mapping[str, int] | None = None,
    ) -> int | None:
        """Close a finishing run: 1 closed, 0 closed already by another, None when something is still unsettled.

        `measured` is what `Measures.encode` made of its calls, to be kept; `added` is what the run adds to the totals
        beside its counts, see `rlm.core.tally`.
        """
        keys = self._keys
        fields = [part for field in (measured or {}).items() for part in field]
        more = [part for field in (added or {}).items() for part in field]
        reply = self._close(
            self._client,
            [
                keys.current,
                keys.run(run_id),
                keys.tally(run_id),
                keys.timings(run_id),
                keys.records,
                keys.runs,
                keys.wanted,
                keys.measured,
                keys.totals,
                *(holder for name in types for holder in keys.holders(name)),
            ],
            [run_id, msgspec.json.encode(record), wanted, len(fields) // 2, *fields, *more],
        )
        return None if reply < 0 else int(reply)

    @translated()
    def tally(self, run_id: str) -> dict[str, int]:
        """Read the counts of an open run, `what:name` -> number."""
        with translated(self._client):
            found = cast("dict[bytes, bytes]", self._client.hgetall(self._keys.tally(run_id)))
        return {name.decode(errors=ESCAPED): int(number) for name, number in found.items()}

    def record(self, run_id: str) -> dict[str, Any] | None:
        """Return the record of a closed run, or None, also where what is kept of it is no record."""
        with translated(self._client):
            raw = cast("bytes | None", self._client.hget(self._keys.records, run_id))
        return _read_record(run_id, raw)

    def history(self, number: int) -> list[str]:
        """Return the ids of the last `number` closed runs, newest first."""
        with translated(self._client):
            found = cast("list[bytes]", self._client.lrange(self._keys.runs, 0, number - 1))
        return [one.decode(errors=ESCAPED) for one in found]

    def recent(self, number: int) -> list[dict[str, Any]]:
        """Return the records of the last `number` closed runs, newest first; those that are none are left out."""
        ids = self.history(number)
        if not ids:
            return []
        with translated(self._client):
            found = cast("list[bytes | None]", self._client.hmget(self._keys.records, ids))
        return [one for run_id, raw in zip(ids, found, strict=True) if (one := _read_record(run_id, raw)) is not None]

    def count(self) -> int:
        """Count the records."""
        with translated(self._client):
            return self._client.llen(self._keys.runs)

    def surplus(self, keep: int) -> dict[str, bytes]:
        """Read the oldest records of those that are more than `keep`: run id -> JSON, oldest first.

        They are `CHUNK` at the most. A run whose record is missing, which others must have removed, has b"null".
        """
        with translated(self._client):
            number = min(CHUNK, self._client.llen(self._keys.runs) - keep)
            if number <= 0:
                return {}
            ids = cast("list[bytes]", self._client.lrange(self._keys.runs, -number, -1))[::-1]
            found = cast("list[bytes | None]", self._client.hmget(self._keys.records, ids))
        return {one.decode(errors=ESCAPED): record or b"null" for one, record in zip(ids, found, strict=True)}

    def trim(self, token: int, run_ids: Sequence[str]) -> int:
        """Remove the oldest records, which are `run_ids` and archived; return how many. May be repeated.

        Raises FencedError for a `token` that is not the lease's.
        """
        return int(self._trim(self._client, [self._keys.lease, self._keys.records, self._keys.runs], [token, *run_ids]))

    @translated()
    def last_tick(self) -> float | None:
        """Return when the scheduler last ticked, seconds since 1970."""
        with translated(self._client):
            raw = cast("bytes | None", self._client.get(self._keys.last_tick))
        if raw is None:
            return None
        if not math.isfinite(at := float(raw)):
            raise ValueError(f"no moment: {raw!r}")
        return at

    def note_tick(self, at: float) -> None:
        """Note when the scheduler ticked, seconds since 1970."""
        with translated(self._client):
            self._client.set(self._keys.last_tick, repr(at))

    def request(self) -> str:
        """Ask the scheduler to start a run; return the request's id, for `reply` and `withdraw`."""
        request_id = secrets.token_hex(8)
        with translated(self._client):
            self._client.lpush(self._keys.requests, request_id)
            self._client.publish(self._keys.wake("scheduler"), "request")
        return request_id

    def next_request(self) -> str | None:
        """Return the oldest request to start a run, or None. It stays until it is answered, for its taker may die."""
        with translated(self._client):
            raw = cast("bytes | None", self._client.lindex(self._keys.requests, -1))
        return None if raw is None else raw.decode(errors=ESCAPED)

    def withdraw(self, request_id: str) -> bool:
        """Take a request back; False when it has been answered."""
        with translated(self._client):
            return bool(self._client.lrem(self._keys.requests, 1, request_id))

    def answer(self, request_id: str, reply: Mapping[str, Any]) -> None:
        """Answer a request: `{"run_id": ...}` of the run started, or `{"open": ...}` of the one under way."""
        with translated(self._client):
            pipeline = self._client.pipeline(transaction=True)
            pipeline.set(self._keys.reply(request_id), msgspec.json.encode(reply), px=_REPLY_MS)
            pipeline.lrem(self._keys.requests, 1, request_id)
            pipeline.execute()

    @translated()
    def reply(self, request_id: str) -> dict[str, Any] | None:
        """Return the answer to a request, None while there is none."""
        with translated(self._client):
            raw = cast("bytes | None", self._client.get(self._keys.reply(request_id)))
        return None if raw is None else cast("dict[str, Any]", msgspec.json.decode(raw))


def _read_record(run_id: str, raw: bytes | None) -> dict[str, Any] | None:
    if raw is None:
        return None
    if is_record(raw):
        return cast("dict[str, Any]", msgspec.json.decode(raw))
    log.warning(
        "What is kept of run %s is no record, and left out; see `rlm doctor`",
        safe_line(run_id),
        extra={"action": "read_record"},
    )
    return None


def _read_run(run_id: str, fields: Mapping[bytes, bytes]) -> Run:
    text = {name.decode(errors=ESCAPED): value.decode(errors=ESCAPED) for name, value in fields.items()}
    return Run(
        id=run_id,
        state=State(text["state"]),
        trigger=Trigger(text["trigger"]),
        started_at=float(text["started_at"]),
        deadline=float(text["deadline"]),
        deadline_us=int(text["deadline_us"]),
        window_seconds=float(text["window_seconds"]),
        revision=text["revision"],
        plan=msgspec.json.decode(text["plan"]) if "plan" in text else None,
        forecast=msgspec.json.decode(text["forecast"]) if "forecast" in text else None,
        first_release_at=float(text["first_release_at"]) if "first_release_at" in text else None,
        cancelled="cancelled" in text,
        failure=text.get("failure", ""),
        stopped=text.get("stopped", ""),
        workers_peak=int(text.get("workers_peak", 0)),
        restarts_before=int(text.get("restarts_before", 0)),
        tick=float(text.get("tick", text["started_at"])),
        waits=msgspec.json.decode(text["waits"]) if "waits" in text else None,
        spent=msgspec.json.decode(text["spent"]) if "spent" in text else None,
        late=msgspec.json.decode(text["late"]) if "late" in text else {},
        away_seconds=float(text.get("away_seconds", 0)),
        ever_taken=int(text["ever_taken"]) if "ever_taken" in text else None,
    )
