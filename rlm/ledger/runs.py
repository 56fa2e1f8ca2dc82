"""Runs and their records: opening a run, moving it on, closing it exactly once, and reading records."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from rlm.core.documents import Record, RunForecast, RunPlan
from rlm.core.errors import StoreError, StoreGarbledError
from rlm.core.run import MOVES, Run, State, Trigger
from rlm.core.text import safe_line
from rlm.core.trail import Counts
from rlm.ledger.connect import MICROSECONDS, text, translated, translating
from rlm.ledger.scripts import Command, Part, names_of

log = logging.getLogger(__name__)


def read_tally(found: Mapping[bytes, bytes]) -> dict[str, int]:
    """Return the decoded counts of a run."""
    return {text(name): int(number) for name, number in found.items()}


def read_record(run_id: str, raw: bytes | None) -> Record | None:
    """Return the record of a closed run, None if there is none; an invalid record is logged and counts as none."""
    if raw is None:
        return None
    try:
        return msgspec.json.decode(raw, type=Record)
    except msgspec.DecodeError as error:
        message = "What is kept of run %s is not a record, and is left out (%s); see `rlm doctor`"
        log.warning(message, safe_line(run_id), error, extra={"action": "read_record"})
        return None


#: How each field of a run's hash is decoded.
_READ: Mapping[str, Callable[[str], Any]] = {
    "state": State,
    "trigger": Trigger,
    "cancelled": bool,
    **dict.fromkeys(("started_at", "deadline", "window_seconds", "first_release_at", "tick", "away_seconds"), float),
    **dict.fromkeys(("deadline_us", "workers_peak", "restarts_before", "ever_taken", "untaken"), int),
    **dict.fromkeys(("revision", "failure", "stopped"), str),
    **dict.fromkeys(("waits", "spent", "late"), msgspec.json.decode),
    "plan": msgspec.json.Decoder(RunPlan).decode,
    "forecast": msgspec.json.Decoder(RunForecast).decode,
}


def write_waits(waits: Mapping[str, Any], counts: Mapping[str, Counts], untaken: int) -> dict[str, str]:
    """Return the fields of a run's hash that explain its leftovers at its end.

    They are what the events waited for, the spent events of each type in `counts`, and how many items were not taken.
    """
    spent = {name: count.spent for name, count in counts.items() if count.spent}
    found = {"waits": _encoded(waits), "spent": _encoded(spent)}
    return {**found, "untaken": str(untaken)} if untaken else found


def _encoded(value: object) -> str:
    return msgspec.json.encode(value).decode()


def read_run(run_id: str, fields: Mapping[bytes, bytes]) -> Run:
    """Return a run from its hash; raise ValueError, LookupError or TypeError if it is invalid."""
    found = {text(name): text(value) for name, value in fields.items()}
    read = {name: _READ[name](value) for name, value in found.items() if name in _READ}
    return Run(run_id, **{"tick": read["started_at"], **read})


class Runs(Part):
    """The open run (at most one), and the records of closed runs."""

    #: The run that was open at the last look.
    _last = ""

    def open(self, token: int, run: Run, types: Sequence[str]) -> str:
        """Open `run`, carrying over the unsettled events of `types`; return the id of the open run.

        If another run was already open, that is its id.
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
            **({"late": _encoded(run.late)} if run.late else {}),
            **({} if run.ever_taken is None else {"ever_taken": run.ever_taken}),
        }
        zsets = [{"name": name, "pending": keys.pending(name), "retried": keys.retried(name)} for name in types]
        opened = self._run(
            "open_run",
            **self._open_keys(run.id),
            tally=keys.tally(run.id),
            token=token,
            run_id=run.id,
            fields=_texts(fields),
            types=zsets,
        )
        return text(opened)

    @translating
    def current(self) -> Run | None:
        """Return the open run, or None."""
        return self._look()[0]

    @translating
    def current_at(self) -> tuple[Run | None, int]:
        """Return the open run, or None, and the time by the clock of Redis, microseconds since 1970."""
        run, ((seconds, microseconds),) = self._look(("TIME",))
        return run, seconds * MICROSECONDS + microseconds

    def _look(self, *commands: Command) -> tuple[Run | None, list[Any]]:
        """Return the open run and the replies to `commands`, in one round trip unless the run has changed."""
        keys, last = self._keys, self._last  # another thread may look at the same time
        known = [("HGETALL", keys.run(last))] if last else []
        current, *found = self._batch([("GET", keys.current), *known, *commands])
        run_id, fields = text(current or b""), found.pop(0) if last else {}
        if run_id != last:
            self._last, fields = run_id, self._hgetall(keys.run(run_id)) if run_id else {}
        return (read_run(run_id, fields) if run_id and fields else None), found

    def left_open(self) -> list[str]:
        """Return the runs that have a readable hash, newest first, whether open or not."""
        found = names_of(self._client, self._keys.family("run"))
        ids = sorted((one.rpartition(":")[2] for one in found), reverse=True)
        return [run_id for run_id in ids if self._is_readable(run_id)]

    def _is_readable(self, run_id: str) -> bool:
        try:
            with translated(self._client):
                read_run(run_id, self._hgetall(self._keys.run(run_id)))
        except StoreGarbledError:
            return False
        return True

    def restore(self, token: int, run_id: str) -> bool:
        """Reopen a run whose hash exists after the name of the open run was lost; return False if a run is open."""
        return bool(self._run("restore_run", [self._keys.lease, self._keys.current], [token, run_id]))

    def restate(self, token: int, run_id: str, types: Sequence[str]) -> bool:
        """Recompute what the open run carried over, so that its books balance; return False if it is not open."""
        keys = self._keys
        names = [keys.lease, keys.current, keys.tally(run_id)]
        names += [key for name in types for key in (keys.pending(name), *keys.holders(name))]
        return bool(self._run("restate_tally", names, [token, run_id, *types]))

    def list_again(self) -> None:
        """Rebuild a lost list of runs from the ids of the records, which sort by time."""
        ids = sorted(self._ask("HKEYS", self._keys.records), reverse=True)
        if ids and not self._ask("EXISTS", self._keys.runs):
            self._ask("RPUSH", self._keys.runs, *ids)

    def is_open(self, run_id: str) -> bool:
        """Return whether this is the open run."""
        return bool(self._ask("GET", self._keys.current) == run_id.encode())

    def advance(self, token: int, run_id: str, state: State, **fields: str | float) -> bool:
        """Move the open run to `state` and write `fields`; return False if it is no longer open. May be repeated.

        Raises:
            StoreError: the run's current state may not move there (`rlm.core.run.MOVES`); nothing was written.
        """
        before = {str(other): True for other, after in MOVES.items() if state in after}
        reply = self._run(
            "advance_run",
            **self._open_keys(run_id),
            releases=self._keys.releases,
            token=token,
            run_id=run_id,
            state=state,
            before=before,
            fields=_texts(fields),
        )
        if isinstance(reply, bytes):
            raise StoreError(f"run {run_id} is {text(reply)}, and from there no run moves to {state}")
        return bool(reply)

    def end_overdue(self, run_id: str, **fields: str) -> bool:
        """Finish a run whose deadline has passed, write `fields`, and depose its conductor.

        Return False if it already finishes, is no longer open, or is not overdue.
        """
        keys = self._open_keys(run_id)
        releases = self._keys.releases
        return bool(self._run("end_overdue", **keys, releases=releases, run_id=run_id, fields=_texts(fields)))

    def note(self, token: int, run_id: str, **fields: str | float) -> bool:
        """Write `fields` of the open run in any state; return False if it is no longer open."""
        keys = self._open_keys(run_id)
        return bool(self._run("note_run", **keys, token=token, run_id=run_id, fields=_texts(fields)))

    def _open_keys(self, run_id: str) -> dict[str, str]:
        """Return the keys of every script that changes an open run, by their names there."""
        return {"lease": self._keys.lease, "current": self._keys.current, "run": self._keys.run(run_id)}

    def cancel(self, run_id: str) -> State | None:
        """Ask the conductor to end a run now; return the state it was in, None if it is not open."""
        keys = self._keys
        state = self._run(
            "cancel_run", current=keys.current, run=keys.run(run_id), releases=keys.releases, run_id=run_id
        )
        return State(text(state)) if state else None

    def close(
        self,
        run_id: str,
        record: Record,
        types: Sequence[str],
        *,
        wanted: int,
        measured: Mapping[str, bytes] | None = None,
        added: Mapping[str, int] | None = None,
    ) -> int | None:
        """Close a finishing run; return 1 if closed, 0 if another closed it, None if something is still unsettled.

        Records beyond `run.history` are removed, the oldest first.

        `measured` comes from `Measures.encode` and is kept; `added` is what the run adds to the totals beside its
        counts, see `rlm.core.tally`.
        """
        keys = self._keys
        reply = self._run(
            "close_run",
            current=keys.current,
            run=keys.run(run_id),
            tally=keys.tally(run_id),
            timings=keys.timings(run_id),
            records=keys.records,
            runs=keys.runs,
            wanted=keys.wanted,
            measured=keys.measured,
            totals=keys.totals,
            releases=keys.releases,
            run_id=run_id,
            record=msgspec.json.encode(record),
            workers=wanted,
            history=self._store.settings.run.history,
            holders=[holder for name in types for holder in keys.holders(name)],
            kept={pair: value.decode() for pair, value in (measured or {}).items()},
            added=added or {},
        )
        return None if reply < 0 else int(reply)

    @translating
    def tally(self, run_id: str) -> dict[str, int]:
        """Return the counts of an open run, `what:name` -> number."""
        return read_tally(self._hgetall(self._keys.tally(run_id)))

    def record(self, run_id: str) -> Record | None:
        """Return the record of a closed run; None if there is none, or if it is invalid."""
        return read_record(run_id, self._ask("HGET", self._keys.records, run_id))

    def history(self, number: int) -> list[str]:
        """Return the ids of the last `number` closed runs, newest first."""
        return list(map(text, self._ask("LRANGE", self._keys.runs, 0, number - 1)))

    def recent(self, number: int) -> list[Record]:
        """Return the records of the last `number` closed runs, newest first, without invalid ones."""
        return self.records(self.history(number))

    def records(self, ids: Sequence[str]) -> list[Record]:
        """Return the records of these closed runs in this order, without invalid ones."""
        found = self._ask("HMGET", self._keys.records, *ids) if ids else []
        return [one for run_id, raw in zip(ids, found, strict=True) if (one := read_record(run_id, raw)) is not None]

    def count(self) -> int:
        """Return how many records there are."""
        return int(self._ask("LLEN", self._keys.runs))


def _texts(fields: Mapping[str, str | float]) -> dict[str, str]:
    """Return fields as Redis keeps them: a float would lose digits on its way through Lua."""
    return {name: str(value) for name, value in fields.items()}
