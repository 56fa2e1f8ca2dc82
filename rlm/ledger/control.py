"""Changes by an operator to the live system (limits and pauses), and their records: when, by whom, from what."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING

import msgspec
from msgspec.structs import replace

from rlm.core.endpoint import Endpoint, Limit
from rlm.ledger.connect import text, translated
from rlm.ledger.rules import Rules
from rlm.ledger.scripts import Access, Part, ScriptReply
from rlm.ledger.values import MICROSECONDS, Moment

if TYPE_CHECKING:
    from rlm.core.endpoint import Limited

#: How many records are kept, the newest.
MOST_CHANGES = 1000
#: The author of a change that follows the configuration file.
BY_FILE = "file"
#: How many of the newest changes a look reads: more than anybody makes between two looks.
LOOKED_AT = 100

log = logging.getLogger(__name__)


class What(StrEnum):
    """What was changed of an endpoint or a budget."""

    LIMIT = "limit"
    PAUSE = "pause"
    RESUME = "resume"


class Change(msgspec.Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """One change. `at` is seconds since 1970 by the clock of Redis; `by` is user@host or `BY_FILE`.

    For a limit, `before` and `after` are its texts; `before` is None for the first that was published. For a pause,
    `after` says how long; for a resume, `before` says what was ended. `reason` is the given reason, if any. `window` is
    the window's id, because a renamed endpoint keeps its window; records of earlier versions have none.
    """

    at: Moment
    by: str
    name: str
    what: What
    before: str | None
    after: str | None
    reason: str | None = None
    window: str | None = None

    @property
    def of(self) -> str:
        """What was changed: its window or, without one, its name."""
        return self.window or self.name

    @property
    def ended(self) -> str:
        """What a resume ended, in the current words of health; records say `open` for resting."""
        return (self.before or "").replace("open", "resting")


class Changes(Part):
    """The newest changes, each written in the same step as the change."""

    def note(self, by: str, name: str, what: What, before: str | None, after: str | None) -> None:
        """Record a change now, outside of the step that makes it."""
        record = msgspec.json.encode(Change(self._store.now(), by, name, what, before, after))
        changes = self._keys.changes
        self._batch([("LPUSH", changes, record), ("LTRIM", changes, 0, MOST_CHANGES - 1)], transaction=True)

    @translated()
    def newest(self, number: int = MOST_CHANGES) -> list[Change]:
        """Return the newest `number` changes, newest first."""
        return read_changes(self._ask("LRANGE", self._keys.changes, 0, max(0, number - 1)))


def read_changes(found: Iterable[bytes]) -> list[Change]:
    """Return decoded changes, without what RLM did not write."""
    changes = []
    for raw in found:
        with suppress(ValueError):
            change = msgspec.json.decode(raw, type=Change)
            if change.what is What.LIMIT:
                Limit.parse(change.after or "")
            changes.append(change)
    return changes


def newest_limits(newest: Iterable[Change], limited: Iterable[Limited]) -> dict[str, Change]:
    """Return the newest change of each changed limit, by name; `newest` is newest first."""
    changes = {one.of: one for one in reversed(list(newest)) if one.what is What.LIMIT}
    found = {one.name: changes.get(one.window_id) or changes.get(one.name) for one in limited}
    return {name: change for name, change in found.items() if change}


def limits_of(limited: Limited, newest: Iterable[Change]) -> list[tuple[float, str]]:
    """Return the limits that an endpoint or a budget had, each with its start (seconds since 1970), oldest first.

    Changes count under any earlier name of the window. `newest` has changes of anything, newest first. If known, the
    limit before the oldest change comes first, with the start 0.0.
    """
    names = {limited.name, limited.window_id}
    changes = [one for one in newest if one.of in names and one.what is What.LIMIT and one.after]
    found = [(one.at, one.after) for one in reversed(changes) if one.after]
    if changes and changes[-1].before:
        found.insert(0, (0.0, changes[-1].before))
    return found


def record_of(by: str, limited: Limited, what: What, after: str | None = None, reason: str = "") -> str:
    """Return a change for a script, which adds the time and the value before."""
    why = {"reason": reason} if reason else {}
    of = {"name": limited.name, "window": limited.window_id}
    return msgspec.json.encode({"by": by, **of, "what": what, "to": after, **why}).decode()


class ChangeTeller:
    """Logs each change by an operator once. Those before its first look were logged by another process."""

    def __init__(self, store: Access) -> None:
        self._store = store
        self._told: set[Change] | None = None

    def tell(self, *, aloud: bool) -> None:
        """Read the changes since the last look, and log them if `aloud`."""
        newest = Changes(self._store).newest(LOOKED_AT)
        if aloud and self._told is not None:
            for change in reversed(newest):
                if change not in self._told and change.by != BY_FILE:
                    log.info("%s", _words(change), extra={"action": f"{change.what}_endpoint", "endpoint": change.name})
        self._told = set(newest)


def _words(change: Change) -> str:
    match change.what:
        case What.LIMIT:
            words = f"{change.by} changed the limit of {change.name} from {change.before} to {change.after}"
        case What.PAUSE:
            how_long = change.after if change.after == "until resumed" else f"for {change.after}"
            words = f"{change.by} paused {change.name} {how_long}"
        case What.RESUME:
            words = f"{change.by} resumed {change.name}" + (f", which was {change.ended}" if change.before else "")
    return f"{words} ({change.reason})" if change.reason else words


class Resumed(ScriptReply, frozen=True):
    """What a resume ended: a pause, a rest because of the endpoint's answers."""

    paused: bool
    rested: bool


class Control(Part):
    """Makes changes for all workers at once and records them in the same step. After a StoreError, both may be done."""

    def publish(self, token: int, limited: Collection[Limited]) -> None:
        """Publish the limits of the file, which workers obey, except for limits that were set by hand since.

        A limit belongs to the window, so one set by hand survives a renaming of its endpoint in the file.
        """
        self._run(
            "publish_limits",
            prefix=self._keys.prefix,
            lease=self._keys.lease,
            changes=self._keys.changes,
            token=token,
            kept=MOST_CHANGES,
            limited=[
                {
                    "name": one.name,
                    "limit": one.limit.text,
                    "record": record_of(BY_FILE, one, What.LIMIT, one.limit.text),
                    "window": one.window_id,
                }
                for one in limited
            ],
        )

    def limit(self, limited: Limited, limit: str, by: str, reason: str = "") -> str:
        """Set a limit, which holds until the file's value for it changes; return the one before.

        The window keeps its history, so no slot is given twice. `limited` is as in the configuration.
        """
        Rules(self._store).limit(replace(limited, limit=Limit.parse(limit)), self._store.settings.run.guard_seconds)
        before = self._run(
            "set_limit",
            prefix=self._keys.prefix,
            changes=self._keys.changes,
            window=limited.window_id,
            limit=limit,
            in_file=limited.limit.text,
            kept=MOST_CHANGES,
            record=record_of(by, limited, What.LIMIT, limit, reason),
        )
        return text(before)

    def pause(self, limited: Limited, by: str, seconds: float | None = None, reason: str = "") -> None:
        """Stop new calls to `limited`, for `seconds` or until it is resumed. Calls under way are not cut."""
        pause_us = -1 if seconds is None else round(seconds * MICROSECONDS)
        how_long = "until resumed" if seconds is None else f"{seconds:g} s"
        self._run(
            "pause_endpoint",
            prefix=self._keys.prefix,
            window=limited.window_id,
            names=self._names(limited),
            changes=self._keys.changes,
            pause_us=pause_us,
            by=by,
            kept=MOST_CHANGES,
            record=record_of(by, limited, What.PAUSE, how_long, reason),
        )

    def resume(self, limited: Limited, by: str, reason: str = "") -> Resumed:
        """End a pause, and a rest because of the endpoint's answers; its next call is then a probe.

        A rest because the window cannot be trusted continues; without it a limit could be exceeded.
        """
        reply = self._run(
            "resume_endpoint",
            prefix=self._keys.prefix,
            window=limited.window_id,
            names=self._names(limited),
            changes=self._keys.changes,
            kept=MOST_CHANGES,
            record=record_of(by, limited, What.RESUME, reason=reason),
        )
        return Resumed.read(reply)

    def _names(self, limited: Limited) -> list[str]:
        """Return the endpoints with this window: one, or those of a budget."""
        if isinstance(limited, Endpoint):
            return [limited.name]
        endpoints = self._store.settings.endpoints.values()
        return [endpoint.name for endpoint in endpoints if endpoint.budget and endpoint.budget.name == limited.name]
