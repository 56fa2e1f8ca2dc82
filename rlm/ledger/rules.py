"""What lanes must know of types and endpoints: published by the leader, changed by operators, read by the scripts.

Each change of the live system (of a limit, a pause) is recorded in the same step: when, by whom, from what.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from enum import StrEnum
from typing import Any

import msgspec
from msgspec.structs import replace

from rlm.core.call import Expected, Pair, expected_of
from rlm.core.endpoint import ANSWER_SLACK_SECONDS, EventType, Limit, Limited, all_limited
from rlm.ledger.connect import text, translated
from rlm.ledger.scripts import Command, Part
from rlm.ledger.values import LATEST, Moment, us_of

#: How many records of changes are kept, the newest.
MOST_CHANGES = 1000
#: The author of a change that follows the configuration file.
BY_FILE = "file"
#: A longer rule is not held after a doubt, seconds; what was called in a minute is charged on it instead.
LONGEST_HOLD_SECONDS = 3600.0
#: How many types are published in one step.
_AT_ONCE = 50


class WindowRules(msgspec.Struct, frozen=True, omit_defaults=True):
    """A window and its rules, as scripts read them: [calls, period and guard in microseconds], the shortest first.

    `keep` is the longest span, `longest` that for which it is held after a doubt; `charged`: a rule is not held.
    """

    id: str
    limit: str
    keep: int
    longest: int
    rules: list[list[int]]
    charged: bool = False

    @classmethod
    def of(cls, limited: Limited, guard_seconds: float) -> WindowRules:
        """Return the window of an endpoint or a budget with its limit."""
        rules = [[rule.amount, us_of(rule.seconds + guard_seconds)] for rule in limited.limit.rules]
        rules.sort(key=lambda rule: rule[1])
        spans = [rule.seconds for rule in limited.limit.rules if rule.seconds <= LONGEST_HOLD_SECONDS]
        keep, longest = (us_of(span + guard_seconds) for span in (limited.limit.longest_seconds, max(spans, default=0)))
        return cls(limited.window_id, limited.limit.text, keep, longest if spans else 0, rules, len(spans) < len(rules))


class EndpointRules(msgspec.Struct, frozen=True):
    """What scripts know of an endpoint, with its own window, then its budget's; spans are in microseconds.

    `rest` is its longest rest; of each type `types` has the rank, how long a call takes, and how long it needs.
    """

    timeout: int
    rest: int
    windows: list[WindowRules]
    types: dict[str, tuple[str, int, int]]


read_rules = msgspec.msgpack.Decoder(EndpointRules).decode


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
    window: str
    after: str | None = None
    at: Moment = 0.0
    before: str | None = None


class Rules(Part):
    """Publishes the rules, and changes them by hand; a change is in force for the next call of every lane."""

    _published: Mapping[str, EndpointRules] = {}

    def publish(self, token: int, types: Sequence[EventType], expected: Mapping[Pair, Expected]) -> None:
        """Publish what `types`, in their order of use, and their endpoints with the limits in force mean for lanes.

        Raises:
            FencedError: another conductor leads.
        """
        entries = self._entries(types, expected)
        kinds = {kind.name: f"{rank:05d} {kind.name}" for rank, kind in enumerate(types)}
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
            rules = {endpoint.name: entries[endpoint.name] for kind in chunk for endpoint in kind.endpoints}
            self._write(token, rules=rules, types={kind.name: kinds[kind.name] for kind in chunk})
        self._published = entries

    def adjust(self, token: int, types: Sequence[EventType], expected: Mapping[Pair, Expected]) -> None:
        """Publish again what has changed since this process published last."""
        entries = self._entries(types, expected)
        changed = [name for name, entry in entries.items() if self._published.get(name) != entry]
        for first in range(0, len(changed), 4 * _AT_ONCE):
            self._write(token, rules={name: entries[name] for name in changed[first : first + 4 * _AT_ONCE]})
        self._published = entries

    def limits_command(self, limited: Sequence[Limited]) -> Command:
        """Return the command whose reply `read_limits` reads."""
        return ("HMGET", self._keys.rules, *(f"limit {each.window_id}" for each in limited))

    def _write(self, token: int | str, **parts: Any) -> None:
        """Write some of the parts that `write_rules` takes, in one step."""
        usual: dict[str, Any] = {"rules": {}, "types": {}, "sharing": {}, "gone": (), "limits": ()}
        self._run("write_rules", token=token, **(usual | parts))

    def _entries(self, types: Iterable[EventType], expected: Mapping[Pair, Expected]) -> dict[str, EndpointRules]:
        """Return the entry of each endpoint by its name."""
        guard_seconds = self._store.settings.run.guard_seconds
        entries: dict[str, EndpointRules] = {}
        for kind in types:
            for rank, endpoint in enumerate(kind.endpoints):
                call = expected_of(kind, endpoint.name, expected)
                call_us, need_us = us_of(call.seconds), us_of(call.needed_seconds + ANSWER_SLACK_SECONDS)
                earlier = entries.get(endpoint.name)
                entries[endpoint.name] = EndpointRules(
                    # A lease must cover the calls of all its types.
                    timeout=max(us_of(endpoint.timeout_seconds), earlier.timeout if earlier else 0),
                    rest=us_of(endpoint.limit.longest_seconds),
                    windows=[WindowRules.of(each, guard_seconds) for each in all_limited([endpoint])],
                    types={**(earlier.types if earlier else {}), kind.name: (f"{rank:04d}", call_us, need_us)},
                )
        return entries

    @translated()
    def changes(self, entries: Sequence[bytes] | None = None) -> list[Change]:
        """Return the newest changes, newest first, without what RLM did not write; by their `entries` if read."""
        changes = []
        for raw in self._ask("LRANGE", self._keys.changes, 0, MOST_CHANGES - 1) if entries is None else entries:
            with suppress(ValueError):
                change = msgspec.json.decode(raw, type=Change)
                if change.what is What.LIMIT:
                    Limit.parse(change.after or "")
                changes.append(change)
        return changes

    def publish_limits(self, token: int) -> None:
        """Publish the limits of the file, which workers obey, except for limits that were set by hand since.

        A limit belongs to the window, so one set by hand survives a renaming of its endpoint in the file.
        """
        limited = all_limited(self._store.settings.endpoints.values())
        self._write(token, limits=[_changed(each, each.limit.text, BY_FILE) for each in limited])

    def limit(self, limited: Limited, limit: str, by: str) -> None:
        """Set a limit for every endpoint with this window, which holds until the file's value for it changes.

        The window keeps its history, so no slot is given twice. `limited` is as in the configuration.
        """
        new = replace(limited, limit=Limit.parse(limit))
        window, rules = WindowRules.of(new, self._store.settings.run.guard_seconds), {}
        sharing = self._ask("HGET", self._keys.rules, f"sharing {window.id}")
        names = msgspec.msgpack.decode(sharing, type=list[str]) if sharing else [limited.name]
        for name, raw in zip(names, self._ask("HMGET", self._keys.rules, *names), strict=True):
            if raw:
                entry = read_rules(raw)
                windows = [window if each.id == window.id else each for each in entry.windows]
                rest = us_of(new.limit.longest_seconds) if windows[0] is window else entry.rest
                rules[name] = replace(entry, windows=windows, rest=rest)
        self._write("", rules=rules, limits=[_changed(limited, limit, by)])

    def pause(self, limited: Limited, by: str, seconds: float | None = None) -> None:
        """Stop new calls to `limited`, for `seconds` or until it is resumed. Calls under way are not cut."""
        how_long = "until resumed" if seconds is None else f"{seconds:g} s"
        self._pause(limited, What.PAUSE, by, us_of(LATEST) if seconds is None else us_of(seconds), how_long)

    def resume(self, limited: Limited, by: str) -> None:
        """End a pause, and a rest because of the endpoint's answers; its next call is then a probe.

        A rest because the window cannot be trusted continues; without it a limit could be exceeded.
        """
        self._pause(limited, What.RESUME, by, 0)

    def _pause(self, limited: Limited, what: What, by: str, pause_us: int, after: str | None = None) -> None:
        record = Change(by, limited.name, what, limited.window_id, after)
        named = {"name": limited.name, "window": limited.window_id, "pause_us": pause_us, "by": by}
        self._run("set_pause", **named, record=record)


def read_limits(texts: Sequence[bytes | None], limited: Sequence[Limited]) -> dict[str, str]:
    """Return the limits in force as text, by name, as far as they were published."""
    return {each.name: text(raw) for each, raw in zip(limited, texts, strict=True) if raw}


def _changed(limited: Limited, limit: str, by: str) -> dict[str, Any]:
    """Return a limit as `write_rules` takes it. Its record gets the time and the limit before there."""
    record = Change(by, limited.name, What.LIMIT, limited.window_id, limit)
    return {"window": limited.window_id, "limit": limit, "in_file": limited.limit.text, "record": record}
