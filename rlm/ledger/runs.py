"""Runs and their records: opening a run, moving it on, closing it exactly once, and reading records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from rlm.core.clock import timestamp
from rlm.core.documents import Record
from rlm.core.errors import StoreError
from rlm.core.item import Counts
from rlm.core.run import MOVES, Run, State, Trigger, Waited, started_at_of
from rlm.ledger.connect import text, translated
from rlm.ledger.processes import Processes
from rlm.ledger.scripts import CHUNK, Part
from rlm.ledger.values import MICROSECONDS, name_unreadable, numbers


def read_record(run_id: str, raw: bytes | None) -> Record | None:
    """Return the record of a closed run, None if there is none; what is no record is named in the log and left out."""
    if raw is None:
        return None
    try:
        record = msgspec.json.decode(raw, type=Record)
        for at in (record.started_at, record.finished_at, record.deadline):
            timestamp(at)
    except (ValueError, RecursionError) as error:
        name_unreadable(f"the record of run {run_id}", raw, error)
        return None
    return record


#: How the failure of a run begins whose hash is lost or damaged.
DAMAGED = "what Redis holds of it is lost or damaged"
#: The fields of a run's hash that are JSON.
_DOCUMENTS = {b"plan", b"forecast", b"waits", b"spent"}
#: By how much the deadline of a run may differ from its start and window, seconds.
_ROUNDING_SECONDS = 1.0


def write_waits(waits: Waited | None, counts: Mapping[str, Counts], untaken: int) -> dict[str, str]:
    """Return the fields of a run's hash that explain its leftovers at its end.

    They are what the events waited for, the spent events of each type in `counts`, and how many items were not taken.
    """
    spent = {name: count.spent for name, count in counts.items() if count.spent}
    found = {"spent": _encoded(spent), **({"waits": _encoded(waits)} if waits else {})}
    return {**found, "untaken": str(untaken)} if untaken else found


def _encoded(value: object) -> str:
    return msgspec.json.encode(value).decode()


def read_run(run_id: str, fields: Mapping[bytes, bytes], window_seconds: float) -> Run:
    """Return a run from its hash.

    A run whose hash is lost or damaged has failed, as `failure` says; its times follow from its id and the usual
    window.
    """
    try:
        values = {text(name): raw if name in _DOCUMENTS else text(raw) for name, raw in fields.items()}
        values |= {name: msgspec.json.decode(raw) for name, raw in values.items() if isinstance(raw, bytes)}
        run = msgspec.convert({"tick": values.get("started_at"), **values, "id": run_id}, Run, strict=False)
        if abs(run.deadline - run.started_at - run.window_seconds) <= _ROUNDING_SECONDS:
            return run
        why = "its deadline is not that of its window"
    except (ValueError, RecursionError) as error:
        why = str(error)
    began = started_at_of(run_id) or 0.0
    ends = began + window_seconds
    times = (began, ends, round(ends * MICROSECONDS), window_seconds)
    usual = (run_id, State.DRAINING, Trigger.MANUAL, *times)
    return Run(*usual, revision="", tick=began, failure=f"{DAMAGED}: {why}")


class Runs(Part):
    """The open run (at most one), and the records of closed runs."""

    def open(self, token: int, run: Run, types: Sequence[str]) -> str:
        """Open `run`, carrying over the unsettled events of `types`; return the id of the open run.

        If another run was already open, that is its id.
        """
        fields: dict[str, str | float] = {
            "state": run.state,
            "trigger": run.trigger,
            "started_at": repr(run.started_at),
            "deadline": repr(run.deadline),
            "deadline_us": run.deadline_us,
            "window_seconds": repr(run.window_seconds),
            "revision": run.revision,
            "tick": repr(run.tick),
            "guard_us": round(self._store.settings.run.guard_seconds * MICROSECONDS),
            **({"waits": _encoded(run.waits)} if run.waits else {}),
        }
        self.end("", token)
        return text(self._run("open_run", **self._fenced(token, run.id), fields=_texts(fields), types=types))

    @translated()
    def current(self) -> Run | None:
        """Return the open run, or None."""
        return self._read(self._hgetall(self._keys.run))

    @translated()
    def current_at(self) -> tuple[Run | None, int]:
        """Return the open run, or None, and the time by the clock of Redis, microseconds since 1970."""
        fields, (seconds, microseconds) = self._batch([("HGETALL", self._keys.run), ("TIME",)])
        return self._read(fields), seconds * MICROSECONDS + microseconds

    def _read(self, fields: Mapping[bytes, bytes]) -> Run | None:
        run_id = text(fields.get(b"run_id", b""))
        return read_run(run_id, fields, self._store.settings.run.window_seconds) if run_id else None

    def is_open(self, run_id: str) -> bool:
        """Return whether this is the open run."""
        return bool(self._ask("HGET", self._keys.run, "run_id") == run_id.encode())

    def advance(self, token: int, run_id: str, state: State, **fields: str | float) -> bool:
        """Move the open run to `state` and write `fields`; return False if it is no longer open. May be repeated.

        Raises:
            StoreError: the run's current state may not move there (`rlm.core.run.MOVES`); nothing was written.
        """
        barred = [other for other in State if other is not state and state not in MOVES.get(other, ())]
        why = "running" if state is State.RUNNING else ""
        was = self._write(token, run_id, {"state": state, **fields}, barred=barred, why=why)
        if was in barred:
            raise StoreError(f"run {run_id} is {was}, and from there no run moves to {state}")
        return bool(was)

    def note(self, token: int, run_id: str, *, gone: Sequence[str] = (), **fields: str | float) -> bool:
        """Write `fields` of the open run in any state, and delete those `gone`; return False if it is not open."""
        return bool(self._write(token, run_id, fields, gone=gone, why=" ".join(gone)))

    def cancel(self, run_id: str) -> bool:
        """Ask the conductor to end a run now, unless it is at it; return False if it is not open."""
        return bool(self._write("", run_id, {"cancelled": 1}, barred=[State.FINISHING], why="cancelled"))

    def want(self, token: int, workers: int) -> None:
        """Publish how many workers are wanted, over all hosts, and wake the supervisors."""
        self._write(token, "", {}, wanted=str(workers))
        Processes(self._store).wake("supervisors")

    def _write(
        self, token: int | str, run_id: str, fields: Mapping[str, str | float], **named: str | Sequence[str]
    ) -> str:
        """Write what is known of the open run; return the state that it was in, empty if it is not open."""
        usual: dict[str, Any] = {"gone": (), "barred": (), "wanted": "", "why": ""} | named
        usual["barred"] = dict.fromkeys(usual["barred"], True)
        return text(self._run("write_run", **self._fenced(token, run_id), fields=_texts(fields), **usual))

    def end(self, run_id: str, token: int | None = None, **fields: str) -> bool:
        """End the open run: from here on nothing is owned, and all that is not settled becomes ready again.

        Without a `token` only if it is overdue, or nothing more can be done in it. Return whether it is finishing.
        """
        named = {**self._fenced("" if token is None else token, run_id), "fields": _texts(fields), "most": CHUNK}
        while (returned := self._run("end_run", **named)) > 0:
            pass
        return bool(returned == 0)

    def _fenced(self, token: int | str, run_id: str) -> dict[str, str | int]:
        return {"token": token, "run_id": run_id}

    def close(
        self,
        run_id: str,
        record: Record,
        *,
        wanted: int,
        added: Mapping[str, int] | None = None,
    ) -> int | None:
        """Close a finishing run; return 1 if closed, 0 if another closed it, None if something is still unsettled.

        Records beyond `run.history` are removed, the oldest first.

        `added` is what the run adds to the totals beside its counts, see `rlm.ledger.calls`.
        """
        reply = self._run(
            "close_run",
            run_id=run_id,
            record=msgspec.json.encode(record),
            workers=wanted,
            history=self._store.settings.run.history,
            added=added or {},
        )
        return None if reply < 0 else int(reply)

    @translated()
    def tally(self) -> dict[str, int]:
        """Return the counts of the open run, `what:name` -> number."""
        return numbers(self._hgetall(self._keys.tally), self._keys.tally)

    def record(self, run_id: str) -> Record | None:
        """Return the record of a closed run; None if there is none, or if it is invalid."""
        return read_record(run_id, self._ask("HGET", self._keys.records, run_id))

    def history(self, number: int | None = None) -> list[str]:
        """Return the ids of the last `number` closed runs, by default of all, newest first."""
        return sorted(map(text, self._ask("HKEYS", self._keys.records)), reverse=True)[:number]

    def count(self) -> int:
        """Return how many records there are."""
        return int(self._ask("HLEN", self._keys.records))

    def recent(self, number: int) -> list[Record]:
        """Return the records of the last `number` closed runs, newest first, without invalid ones."""
        return self.records(self.history(number))

    def records(self, ids: Sequence[str]) -> list[Record]:
        """Return the records of these closed runs in this order, without invalid ones."""
        raw = self._ask("HMGET", self._keys.records, *ids) if ids else []
        return [record for record in map(read_record, ids, raw) if record is not None]


def _texts(fields: Mapping[str, str | float]) -> dict[str, str]:
    """Return fields as Redis keeps them: a float would lose digits on its way through Lua."""
    return {name: str(value) for name, value in fields.items()}
