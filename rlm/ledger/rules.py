"""What lanes must know of types and endpoints: published by the leader, changed by operators, read by the scripts.

Each change of the live system (of a limit, a pause) is recorded in the same step: when, by whom, from what.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from rlm.core.call import Expected, Pair, call_seconds, needed_seconds
from rlm.core.endpoint import LEASE_SLACK_SECONDS, Endpoint, EventType, Limit, Limited, all_limited
from rlm.ledger.connect import text, translated
from rlm.ledger.scripts import Command, Part
from rlm.ledger.values import Moment, us_of

#: How many records of changes are kept, the newest.
MOST_CHANGES = 1000
#: The author of a change that follows the configuration file.
BY_FILE = "file"
#: A longer rule is not held after a doubt, seconds; what was called in a minute is charged on it instead.
LONGEST_HOLD_SECONDS = 3600.0
#: How many types are published in one step.
_AT_ONCE = 50


class WindowRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """A window and its rules, as scripts read them: [calls, period and guard in microseconds].

    `keep` is the longest span, `longest` that for which it is held after a doubt; `charged`: a rule is not held. A
    budget's window is `shared`.
    """

    id: str
    keep: int
    longest: int
    rules: list[list[int]]
    charged: bool = False
    shared: bool = False

    @classmethod
    def of(cls, limited: Limited, guard_seconds: float, *, shared: bool = False) -> WindowRules:
        """Return the window of an endpoint or a budget with its limit."""
        rules = [[rule.amount, us_of(rule.seconds + guard_seconds)] for rule in limited.limit.rules]
        spans = [rule.seconds for rule in limited.limit.rules if rule.seconds <= LONGEST_HOLD_SECONDS]
        keep, longest = (us_of(span + guard_seconds) for span in (limited.limit.longest_seconds, max(spans, default=0)))
        return cls(limited.window_id, keep, longest if spans else 0, rules, len(spans) < len(rules), shared)


class EndpointRules(msgspec.Struct, frozen=True):
    """What scripts know of an endpoint, with its own `window`, then its budget's; spans are in microseconds.

    `rest` is its longest rest; of each type `types` has the rank, how long a call takes, and how long it needs.
    """

    window: str
    timeout: int
    probe: int
    rest: int
    windows: list[WindowRules]
    types: dict[str, tuple[str, int, int]]

    def encoded(self) -> str:
        """Return it as scripts read it."""
        return msgspec.json.encode(self).decode()


class Rules(Part):
    """Publishes the rules; a change is in force for the next call of every lane."""

    _published: Mapping[str, str] = {}

    def publish(self, token: int, types: Sequence[EventType], expected: Mapping[Pair, Expected]) -> None:
        """Publish what `types`, in their order of use, and their endpoints with the limits in force mean for lanes.

        Raises:
            FencedError: another conductor leads.
        """
        entries = self._entries(types, expected)
        kinds = {kind.name: f"{rank:05d} {kind.share:g}" for rank, kind in enumerate(types)}
        sharing: dict[str, list[str]] = {}
        for endpoint in {each.name: each for kind in types for each in kind.endpoints}.values():
            if endpoint.budget:
                sharing.setdefault(endpoint.budget.window_id, []).append(endpoint.name)
        valid = {*entries, *(f"type {name}" for name in kinds), *(f"sharing {window}" for window in sharing)}
        gone = {text(raw) for raw in self._ask("HKEYS", self._keys.rules)} - valid
        gone = {field for field in gone if not field.startswith(("limit ", "filed "))}
        self._write(token, sharing=sharing, gone=sorted(gone))
        for first in range(0, len(types), _AT_ONCE):
            chunk = types[first : first + _AT_ONCE]
            names = {endpoint.name for kind in chunk for endpoint in kind.endpoints}
            rules = {name: entries[name] for name in names}
            self._write(token, rules=rules, types={kind.name: kinds[kind.name] for kind in chunk})
        self._published = entries

    def adjust(self, token: int, types: Sequence[EventType], expected: Mapping[Pair, Expected]) -> None:
        """Publish again what has changed since this process published last."""
        entries = self._entries(types, expected)
        changed = [name for name, entry in entries.items() if self._published.get(name) != entry]
        for first in range(0, len(changed), 4 * _AT_ONCE):
            self._write(token, rules={name: entries[name] for name in changed[first : first + 4 * _AT_ONCE]})
        self._published = entries

    def limit(self, limited: Limited, guard_seconds: float) -> None:
        """Put a limit that was set by hand in force, for every endpoint with this window."""
        shared = text(self._ask("HGET", self._keys.rules, f"sharing {limited.window_id}") or b"")
        names = msgspec.json.decode(shared, type=list[str]) if shared else [limited.name]
        window, rules = WindowRules.of(limited, guard_seconds, shared=bool(shared)), {}
        for name, raw in zip(names, self._ask("HMGET", self._keys.rules, *names), strict=True):
            if raw:
                entry = msgspec.json.decode(raw, type=EndpointRules)
                rest = us_of(limited.limit.longest_seconds) if window.id == entry.window else entry.rest
                windows = [window if each.id == window.id else each for each in entry.windows]
                rules[name] = replace(entry, windows=windows, rest=rest).encoded()
        self._write("", rules=rules)

    def limits_command(self, limited: Sequence[Limited]) -> Command:
        """Return the command whose reply `read_limits` reads."""
        return ("HMGET", self._keys.rules, *(f"limit {each.window_id}" for each in limited))

    def _write(self, token: int | str, **parts: Any) -> None:
        self._run("write_rules", token=token, **({"rules": {}, "types": {}, "sharing": {}, "gone": ()} | parts))

    def _entries(self, types: Iterable[EventType], expected: Mapping[Pair, Expected]) -> dict[str, str]:
        """Return the entry of each endpoint by its name."""
        endpoints: dict[str, Endpoint] = {}
        terms: dict[str, dict[str, tuple[str, int, int]]] = {}
        for kind in types:
            for rank, endpoint in enumerate(kind.endpoints):
                first = endpoints.setdefault(endpoint.name, endpoint)
                if endpoint.timeout_seconds > first.timeout_seconds:  # a lease must cover the calls of all its types
                    endpoints[endpoint.name] = endpoint
                call_us, need_us = (us_of(of(kind, endpoint.name, expected)) for of in (call_seconds, needed_seconds))
                terms.setdefault(endpoint.name, {})[kind.name] = (f"{rank:04d}", call_us, need_us)
        return dict(self._entry(endpoint, terms[name]) for name, endpoint in endpoints.items())

    def _entry(self, endpoint: Endpoint, terms: dict[str, tuple[str, int, int]]) -> tuple[str, str]:
        guard_seconds, limited = self._store.settings.run.guard_seconds, all_limited([endpoint])
        entry = EndpointRules(
            window=endpoint.window_id,
            timeout=us_of(endpoint.timeout_seconds),
            probe=us_of(endpoint.timeout_seconds + LEASE_SLACK_SECONDS),
            rest=us_of(endpoint.limit.longest_seconds),
            windows=[WindowRules.of(each, guard_seconds, shared=each is not limited[0]) for each in limited],
            types=terms,
        )
        return endpoint.name, entry.encoded()


def read_limits(texts: Sequence[bytes | None], limited: Sequence[Limited]) -> dict[str, str]:
    """Return the limits in force as text, by name, as far as they were published."""
    return {each.name: text(raw) for each, raw in zip(limited, texts, strict=True) if raw}


class What(StrEnum):
    """What was changed of an endpoint or a budget."""

    LIMIT = "limit"
    PAUSE = "pause"
    RESUME = "resume"


class Change(msgspec.Struct, frozen=True, omit_defaults=True, rename={"before": "from", "after": "to"}):
    """One change. `at` is seconds since 1970 by the clock of Redis; `by` is user@host or `BY_FILE`.

    For a limit, `before` and `after` are its texts; `before` is None for the first that was published. For a pause,
    `after` says how long; for a resume, `before` says what was ended. `window` is the window's id,
    because a renamed endpoint keeps its window.
    """

    by: str
    name: str
    what: What
    after: str | None
    window: str = ""
    at: Moment = 0.0
    before: str | None = None


def newest_limits(newest: Iterable[Change], limited: Iterable[Limited]) -> dict[str, Change]:
    """Return the newest change of each changed limit, by name; `newest` is newest first."""
    changes = {change.window: change for change in reversed(list(newest)) if change.what is What.LIMIT}
    return {each.name: changes[each.window_id] for each in limited if each.window_id in changes}


class Control(Part):
    """Makes changes for all workers at once and records them in the same step. After a StoreError, both may be done."""

    @translated()
    def changes(self, number: int = MOST_CHANGES) -> list[Change]:
        """Return the newest changes, newest first, without what RLM did not write."""
        changes = []
        for raw in self._ask("LRANGE", self._keys.changes, 0, number - 1):
            with suppress(ValueError):
                change = msgspec.json.decode(raw, type=Change)
                if change.what is What.LIMIT:
                    Limit.parse(change.after or "")
                changes.append(change)
        return changes

    def publish(self, token: int, limited: Collection[Limited]) -> None:
        """Publish the limits of the file, which workers obey, except for limits that were set by hand since.

        A limit belongs to the window, so one set by hand survives a renaming of its endpoint in the file.
        """
        self._set(token, ((each, Change(BY_FILE, each.name, What.LIMIT, each.limit.text)) for each in limited))

    def limit(self, limited: Limited, limit: str, by: str) -> None:
        """Set a limit, which holds until the file's value for it changes.

        The window keeps its history, so no slot is given twice. `limited` is as in the configuration.
        """
        Rules(self._store).limit(replace(limited, limit=Limit.parse(limit)), self._store.settings.run.guard_seconds)
        self._set("", [(limited, Change(by, limited.name, What.LIMIT, limit))])

    def _set(self, token: int | str, changed: Iterable[tuple[Limited, Change]]) -> None:
        limits = [
            {"limit": change.after, "in_file": limited.limit.text, **_recorded(limited, change)}
            for limited, change in changed
        ]
        self._run("set_limits", token=token, limits=limits)

    def pause(self, limited: Limited, by: str, seconds: float | None = None) -> None:
        """Stop new calls to `limited`, for `seconds` or until it is resumed. Calls under way are not cut."""
        how_long = "until resumed" if seconds is None else f"{seconds:g} s"
        change = Change(by, limited.name, What.PAUSE, how_long)
        self._pause(limited, change, -1 if seconds is None else us_of(seconds))

    def resume(self, limited: Limited, by: str) -> None:
        """End a pause, and a rest because of the endpoint's answers; its next call is then a probe.

        A rest because the window cannot be trusted continues; without it a limit could be exceeded.
        """
        self._pause(limited, Change(by, limited.name, What.RESUME, None), 0)

    def _pause(self, limited: Limited, change: Change, pause_us: int) -> None:
        self._run("set_pause", pause_us=pause_us, by=change.by, **_recorded(limited, change))


def _recorded(limited: Limited, change: Change) -> dict[str, str]:
    """Return what scripts need for the record of a change, to which they add the time and the value before."""
    record = msgspec.json.encode(replace(change, window=limited.window_id)).decode()
    return {"name": limited.name, "window": limited.window_id, "record": record}
