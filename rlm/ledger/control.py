"""What an operator changes on the live system, limits and pauses, and the records of it: when, by whom, from what.

Beside the changes are kept the orders, what was ordered over HTTP or of hosts.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import msgspec

from rlm.ledger.connect import MICROSECONDS, text, translating
from rlm.ledger.scripts import Argument, Part

if TYPE_CHECKING:
    from rlm.core.endpoint import Limited
    from rlm.ledger import Store

#: Records kept, the newest.
MOST_CHANGES = 1000
#: Who changes a limit that follows the configuration file.
BY_FILE = "file"
#: How many of the newest changes are logged at once: more than anybody makes between two looks.
LOOKED_AT = 100

log = logging.getLogger(__name__)


class What(StrEnum):
    """What was changed of an endpoint or a budget."""

    LIMIT = "limit"
    PAUSE = "pause"
    RESUME = "resume"


class Change(msgspec.Struct, frozen=True, rename={"before": "from", "after": "to"}):
    """One change, `at` in seconds since 1970 by the clock of Redis, `by` user@host or `BY_FILE`.

    Of a limit, `before` and `after` are its texts, `before` being None for the first that was published. Of a pause,
    `after` says how long; of a resume, `before` what was ended. `reason` is why, if that was said. `window` is its id:
    an endpoint that is renamed keeps its window; records of earlier versions have none.
    """

    at: float
    by: str
    name: str
    what: What
    before: str | None
    after: str | None
    reason: str | None = None
    window: str | None = None

    @property
    def of(self) -> str:
        """What was changed: its window, else its name."""
        return self.window or self.name

    @property
    def ended(self) -> str:
        """What a resume ended, as health has it by now: records say `open` of what was resting."""
        return (self.before or "").replace("open", "resting")


class Changes(Part):
    """The newest changes, written in the step that makes them."""

    def note(self, by: str, name: str, what: What, before: str | None, after: str | None) -> None:
        """Record a change that is made now, apart from the step that makes it."""
        record = msgspec.json.encode(Change(self._now(), by, name, what, before, after))
        changes = self._keys.changes
        self._batch([("LPUSH", changes, record), ("LTRIM", changes, 0, MOST_CHANGES - 1)], transaction=True)

    @translating
    def newest(self, number: int = MOST_CHANGES) -> list[Change]:
        """Return the newest `number` changes, newest first, without those of a kind that only a later version knows."""
        return read_changes(self._ask("LRANGE", self._keys.changes, 0, max(0, number - 1)))


def read_changes(found: Iterable[bytes]) -> list[Change]:
    """Read changes, those left out that only a later version knows."""
    changes = []
    for raw in found:
        with suppress(msgspec.ValidationError):
            changes.append(msgspec.json.decode(raw, type=Change))
    return changes


def newest_limits(newest: Iterable[Change], limited: Iterable[Limited]) -> dict[str, Change]:
    """Return the newest change of each limit that was changed, by name, from the `newest` changes, newest first."""
    changes = {one.of: one for one in reversed(list(newest)) if one.what is What.LIMIT}
    found = {one.name: changes.get(one.window_id) or changes.get(one.name) for one in limited}
    return {name: change for name, change in found.items() if change}


def limits_of(limited: Limited, newest: Iterable[Change]) -> list[tuple[float, str]]:
    """Return the limits that an endpoint or a budget had, each with since when (seconds since 1970), oldest first.

    Whatever its name was then, by the `newest` changes of whatever there is, newest first. What was in force before the
    oldest of them comes first, since 0.0, if that is known.
    """
    names = {limited.name, limited.window_id}
    changes = [one for one in newest if one.of in names and one.what is What.LIMIT and one.after]
    found = [(one.at, one.after) for one in reversed(changes) if one.after]
    if changes and changes[-1].before:
        found.insert(0, (0.0, changes[-1].before))
    return found


def record_of(by: str, limited: Limited, what: What, after: str | None = None, reason: str = "") -> bytes:
    """Write a change for a script, which adds when it was made and what was there before."""
    why = {"reason": reason} if reason else {}
    of = {"name": limited.name, "window": limited.window_id}
    return msgspec.json.encode({"by": by, **of, "what": what, "to": after, **why})


class ChangeTeller:
    """Logs each change that an operator makes once. Those before its first look were logged by another."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._told: set[Change] | None = None

    def tell(self, *, aloud: bool) -> None:
        """Note what was changed since the last look, and log it if `aloud`."""
        newest = self._store.changes.newest(LOOKED_AT)
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


class Resumed(msgspec.Struct, frozen=True):
    """What a resume ended: a pause, a rest for what the endpoint answered."""

    paused: bool
    rested: bool


class Control(Part):
    """Makes each change for all workers at once, recorded in the same step; after a StoreError that is not known."""

    def publish(self, token: int, limited: Collection[Limited]) -> None:
        """Publish the limits of the file, those set by hand since excepted: workers obey what is published.

        A limit belongs to the window, so one set by hand holds where its endpoint is renamed in the file.
        """
        args: list[Argument] = [token, MOST_CHANGES]
        for one in limited:
            args += [one.name, one.limit.text, record_of(BY_FILE, one, What.LIMIT, one.limit.text)]
        keys, healths = self._keys, [self._keys.health(one.window_id) for one in limited]
        self._run("publish_limits", [keys.lease, keys.limits, keys.limits_filed, keys.changes, *healths], args)

    def limit(self, limited: Limited, limit: str, by: str, reason: str = "") -> str:
        """Set a limit, which holds until the file's value for it changes; return the one before.

        The window keeps its history, so nothing is allowed twice. `limited` is as the configuration has it.
        """
        record = record_of(by, limited, What.LIMIT, limit, reason)
        keys = [self._keys.limits, self._keys.limits_filed, self._keys.changes, self._keys.health(limited.window_id)]
        return text(self._run("set_limit", keys, [limited.name, limit, limited.limit.text, MOST_CHANGES, record]))

    def pause(self, limited: Limited, by: str, seconds: float | None = None, reason: str = "") -> None:
        """Let no new call go to `limited`, for `seconds` or until it is resumed. Calls under way are not cut."""
        pause_us = -1 if seconds is None else round(seconds * MICROSECONDS)
        how_long = "until resumed" if seconds is None else f"{seconds:g} s"
        record = record_of(by, limited, What.PAUSE, how_long, reason)
        self._run("pause_endpoint", self._both(limited), [pause_us, by, MOST_CHANGES, record])

    def resume(self, limited: Limited, by: str, reason: str = "") -> Resumed:
        """End a pause, and a rest for what the endpoint answered; its next call is then its probe.

        A rest because its window cannot be trusted stays: without it a limit could be exceeded.
        """
        record = record_of(by, limited, What.RESUME, reason=reason)
        paused, rested = self._run("resume_endpoint", self._both(limited), [MOST_CHANGES, record])
        return Resumed(bool(paused), bool(rested))

    def _both(self, limited: Limited) -> list[str]:
        return [self._keys.health(limited.window_id), self._keys.changes]


#: Records kept, the newest.
MOST_ORDERS: Final = 1000


class Order(msgspec.Struct, frozen=True):
    """One order, `at` in seconds since 1970 by the clock of Redis.

    `by` is the token or a session, at an `address`; of a command it is user@host, and there is no address.
    `what` is an operation of rlm/web/operations.py, `about` what it is to change, `reason` why, empty if not said.
    """

    at: float
    by: str
    address: str
    what: str
    about: str
    reason: str = ""


class Orders(Part):
    """The newest orders. Each is noted before it is carried out, so none is carried out unnoted."""

    def note(self, by: str, address: str, what: str, about: str, reason: str) -> None:
        """Note an order that is about to be carried out."""
        record = msgspec.json.encode(Order(self._now(), by, address, what, about, reason))
        key = self._keys.orders
        self._batch([("LPUSH", key, record), ("LTRIM", key, 0, MOST_ORDERS - 1)], transaction=True)

    @translating
    def newest(self, number: int) -> list[Order]:
        """Return the newest `number` orders, newest first."""
        found = self._ask("LRANGE", self._keys.orders, 0, max(0, number - 1))
        return [msgspec.json.decode(raw, type=Order) for raw in found]
