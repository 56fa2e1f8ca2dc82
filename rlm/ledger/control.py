"""Changes by an operator to the live system (limits and pauses), and their records: when, by whom, from what."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec.structs import replace

from rlm.core.endpoint import Endpoint, Limit
from rlm.ledger.connect import text, translated
from rlm.ledger.rules import Rules
from rlm.ledger.scripts import Part, ScriptReply
from rlm.ledger.values import MICROSECONDS, Moment

if TYPE_CHECKING:
    from rlm.core.endpoint import Limited

#: How many records are kept, the newest.
MOST_CHANGES = 1000
#: The author of a change that follows the configuration file.
BY_FILE = "file"


class What(StrEnum):
    """What was changed of an endpoint or a budget."""

    LIMIT = "limit"
    PAUSE = "pause"
    RESUME = "resume"


class Change(msgspec.Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """One change. `at` is seconds since 1970 by the clock of Redis; `by` is user@host or `BY_FILE`.

    For a limit, `before` and `after` are its texts; `before` is None for the first that was published. For a pause,
    `after` says how long; for a resume, `before` says what was ended. `reason` is the given reason, if any. `window` is
    the window's id, because a renamed endpoint keeps its window.
    """

    at: Moment
    by: str
    name: str
    what: What
    before: str | None
    after: str | None
    reason: str | None = None
    window: str = ""


class Changes(Part):
    """The newest changes, each written in the same step as the change."""

    @translated()
    def newest(self, number: int = MOST_CHANGES) -> list[Change]:
        """Return the newest changes, newest first, without what RLM did not write."""
        changes = []
        for raw in self._ask("LRANGE", self._keys.changes, 0, number - 1):
            with suppress(ValueError):
                change = msgspec.json.decode(raw, type=Change)
                if change.what is What.LIMIT:
                    Limit.parse(change.after or "")
                changes.append(change)
        return changes


def newest_limits(newest: Iterable[Change], limited: Iterable[Limited]) -> dict[str, Change]:
    """Return the newest change of each changed limit, by name; `newest` is newest first."""
    changes = {change.window: change for change in reversed(list(newest)) if change.what is What.LIMIT}
    return {each.name: changes[each.window_id] for each in limited if each.window_id in changes}


def limits_of(limited: Limited, newest: Iterable[Change]) -> list[tuple[float, str]]:
    """Return the limits that an endpoint or a budget had, each with its start (seconds since 1970), oldest first.

    `newest` has changes of anything, newest first. If known, the limit before the oldest change comes first, with the
    start 0.0.
    """
    changes = [each for each in newest if each.window == limited.window_id and each.what is What.LIMIT]
    limits = [(change.at, change.after or "") for change in reversed(changes)]
    if changes and changes[-1].before:
        limits.insert(0, (0.0, changes[-1].before))
    return limits


def _record(by: str, limited: Limited, what: What, after: str | None = None, reason: str = "") -> str:
    """Return a change for a script, which adds the time and the value before."""
    record = {"by": by, "name": limited.name, "window": limited.window_id, "what": what, "to": after}
    return msgspec.json.encode({**record, **({"reason": reason} if reason else {})}).decode()


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
        limits = [
            _setting(each, each.limit.text, _record(BY_FILE, each, What.LIMIT, each.limit.text)) for each in limited
        ]
        self._run("set_limits", token=token, limits=limits)

    def limit(self, limited: Limited, limit: str, by: str, reason: str = "") -> str:
        """Set a limit, which holds until the file's value for it changes; return the one before.

        The window keeps its history, so no slot is given twice. `limited` is as in the configuration.
        """
        Rules(self._store).limit(replace(limited, limit=Limit.parse(limit)), self._store.settings.run.guard_seconds)
        setting = _setting(limited, limit, _record(by, limited, What.LIMIT, limit, reason))
        return text(self._run("set_limits", token="", limits=[setting]))

    def pause(self, limited: Limited, by: str, seconds: float | None = None, reason: str = "") -> None:
        """Stop new calls to `limited`, for `seconds` or until it is resumed. Calls under way are not cut."""
        how_long = "until resumed" if seconds is None else f"{seconds:g} s"
        record = _record(by, limited, What.PAUSE, how_long, reason)
        self._pause(limited, -1 if seconds is None else round(seconds * MICROSECONDS), by, record)

    def resume(self, limited: Limited, by: str, reason: str = "") -> Resumed:
        """End a pause, and a rest because of the endpoint's answers; its next call is then a probe.

        A rest because the window cannot be trusted continues; without it a limit could be exceeded.
        """
        return Resumed.read(self._pause(limited, 0, by, _record(by, limited, What.RESUME, reason=reason)))

    def _pause(self, limited: Limited, pause_us: int, by: str, record: str) -> Any:
        names = [limited.name]
        if not isinstance(limited, Endpoint):  # those of a budget
            endpoints = self._store.settings.endpoints.values()
            names = [each.name for each in endpoints if each.budget and each.budget.name == limited.name]
        named = {"window": limited.window_id, "names": names, "pause_us": pause_us, "by": by, "record": record}
        return self._run("set_pause", **named)


def _setting(limited: Limited, limit: str, record: str) -> dict[str, str]:
    in_file = limited.limit.text
    return {"name": limited.name, "window": limited.window_id, "limit": limit, "in_file": in_file, "record": record}
