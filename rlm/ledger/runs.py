"""Runs and their records: opening a run, moving it on, closing it exactly once (`lua/runs.lua`), reading records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from rlm.core.clock import timestamp
from rlm.core.documents import Record
from rlm.core.run import Run, State, Trigger, new_run, started_at_of
from rlm.ledger.connect import text, translated
from rlm.ledger.processes import Processes
from rlm.ledger.scripts import CHUNK, Part
from rlm.ledger.values import numbers, reading, us_of

#: How the failure of a run begins whose hash is lost or damaged.
DAMAGED = "what Redis holds of it is lost or damaged"


def explained(run: Run) -> dict[str, str]:
    """Return the fields of a run's hash that explain its leftovers, or its failure, at its end."""
    fields = {"spent": msgspec.json.encode(run.spent or {}).decode()}
    fields |= {"waits": msgspec.json.encode(run.waits).decode()} if run.waits else {}
    return fields | ({"failure": run.failure} if run.failure else {})


def read_run(run_id: str, fields: Mapping[bytes, bytes], window_seconds: float) -> Run:
    """Return a run from its hash.

    A run whose hash is lost or damaged has failed, as `failure` says; its times follow from its id and the usual
    window.
    """
    documents = {b"plan", b"forecast", b"waits", b"spent"}
    try:
        values: dict[str, Any] = {text(name): text(raw) for name, raw in fields.items() if name not in documents}
        values |= {text(name): msgspec.json.decode(fields[name]) for name in documents & fields.keys()}
        return msgspec.convert({**values, "id": run_id}, Run, strict=False)
    except (ValueError, RecursionError) as error:
        usual = new_run(Trigger.MANUAL, started_at_of(run_id) or 0.0, window_seconds, revision="")
        state = State.FINISHING if fields.get(b"state") == State.FINISHING.encode() else State.DRAINING
        return replace(usual, id=run_id, state=state, failure=f"{DAMAGED}: {error}")


def _read_record(raw: bytes) -> Record:
    record = msgspec.json.decode(raw, type=Record)
    for at in (record.started_at, record.finished_at, record.deadline):
        timestamp(at)
    return record


class Runs(Part):
    """The open run (at most one), and the records of closed runs."""

    def open(self, token: int, run: Run, types: Sequence[str], request: str = "") -> str:
        """Open `run`, carrying over the unsettled events of `types`; return the id of the open run.

        In the same step `request` is answered with it; if that was withdrawn, no run is opened, and the id is empty.
        If another run was already open, that is its id.
        """
        names = ("state", "trigger", "started_at", "deadline", "deadline_us", "window_seconds", "revision")
        fields = {name: str(getattr(run, name)) for name in names}
        fields["guard_us"] = str(us_of(self._store.settings.run.guard_seconds))
        self.end("", token)
        return text(self._run("open_run", token=token, run_id=run.id, request=request, fields=fields, types=types))

    def current(self) -> Run | None:
        """Return the open run, or None."""
        return self.read(self._ask("HGETALL", self._keys.run))

    @translated()
    def read(self, fields: Mapping[bytes, bytes]) -> Run | None:
        """Return the open run by its hash, or None."""
        run_id = text(fields.get(b"run_id", b""))
        return read_run(run_id, fields, self._store.settings.run.window_seconds) if run_id else None

    def is_open(self, run_id: str) -> bool:
        """Return whether this is the open run."""
        return bool(self._ask("HGET", self._keys.run, "run_id") == run_id.encode())

    def start(self, token: int, run_id: str, **fields: Any) -> bool:
        """Let lanes have calls of the open run; return False if it is not open, or finishing. `fields` has its plan."""
        return self.note(token, run_id, state=State.RUNNING, **fields)

    def note(
        self, token: int | str, run_id: str, *, gone: Sequence[str] = (), workers: int | str = "", **fields: str | float
    ) -> bool:
        """Write `fields` of the open run, delete those `gone`, and want so many `workers`, if any are named.

        Return False if it is not open, or finishing. The `token` of who does not conduct is empty.
        """
        named = {"token": token, "run_id": run_id, "fields": fields, "gone": gone, "wanted": workers}
        return bool(self._run("write_run", **named))

    def cancel(self, run_id: str) -> bool:
        """Ask the conductor to end a run now; return False if it is not open, or finishing."""
        return self.note("", run_id, cancelled=1)

    def want(self, token: int, run_id: str, workers: int) -> None:
        """Publish how many workers are wanted for the open run, over all hosts, and wake the supervisors."""
        self.note(token, run_id, workers=workers)
        Processes(self._store).wake("supervisors")

    def end(self, run_id: str, token: int | None = None, **fields: str) -> bool:
        """End the open run: from here on nothing is owned, and all that is not settled becomes ready again.

        Without a `token` only if it is overdue, or nothing more can be done in it. Return whether it is finishing.
        """
        named = {"token": "" if token is None else token, "run_id": run_id, "fields": fields, "most": CHUNK}
        while (returned := self._run("end_run", **named)) > 0:
            pass
        return bool(returned == 0)

    def close(
        self, run_id: str, record: Record, tally: Mapping[str, int], *, wanted: int, added: Mapping[str, int] = {}
    ) -> int | None:
        """Close a finishing run; return 1 if closed, 0 if another closed it, None if something is still unsettled.

        The record is made of the `tally`: what was taken since is the next run's. `added` is what the run adds to the
        totals beside its counts, see `rlm.ledger.calls`.
        """
        named = {"run_id": run_id, "record": msgspec.json.encode(record), "counts": tally, "wanted": wanted}
        reply = int(self._run("close_run", added={**tally, **added}, **named))
        return None if reply < 0 else reply

    @translated()
    def tally(self) -> dict[str, int]:
        """Return the counts of the open run, `what:name` -> number."""
        return numbers(self._ask("HGETALL", self._keys.tally), self._keys.tally)

    def record(self, run_id: str) -> Record | None:
        """Return the record of a closed run; None if there is none, or if it is invalid."""
        return next(iter(self.records([run_id])), None)

    def history(self, number: int | None = None, ids: Sequence[bytes] | None = None) -> list[str]:
        """Return the ids of the last `number` closed runs, by default of all, newest first; `ids` if they are read."""
        ids = self._ask("HKEYS", self._keys.records) if ids is None else ids
        return sorted(map(text, ids), reverse=True)[:number]

    def trim(self) -> None:
        """Remove the oldest records beyond `run.history`, a thousand at a time."""
        if old := self.history()[self._store.settings.run.history :]:
            self._ask("HDEL", self._keys.records, *old[-1000:])

    def recent(self, number: int) -> list[Record]:
        """Return the records of the last `number` closed runs, newest first, without invalid ones."""
        return self.records(self.history(number))

    def records(self, ids: Sequence[str]) -> list[Record]:
        """Return the records of these closed runs in this order, without invalid ones, which the log names."""
        raw = self._ask("HMGET", self._keys.records, *ids) if ids else []
        read = [reading(_read_record, each, f"record {run_id}", None) for run_id, each in zip(ids, raw, strict=True)]
        return [record for record in read if record is not None]
