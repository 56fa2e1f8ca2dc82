"""What lanes must know of types and endpoints: published by the leader, read by the script `turn`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import msgspec

from rlm.core.call import Expected, Pair, call_seconds, needed_seconds
from rlm.core.endpoint import LEASE_SLACK_SECONDS, Endpoint, EventType, Limit, Limited, all_limited
from rlm.ledger.connect import text
from rlm.ledger.scripts import Command, Part
from rlm.ledger.values import MICROSECONDS

#: A longer rule is not held after a doubt, seconds; what the endpoint made in a minute is charged on it instead.
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
        rules = limited.limit.rules
        held = [_us(rule.seconds + guard_seconds) for rule in rules if rule.seconds <= LONGEST_HOLD_SECONDS]
        return cls(
            id=limited.window_id,
            keep=_us(limited.limit.longest_seconds + guard_seconds),
            longest=max(held, default=0),
            charged=len(held) < len(rules),
            shared=shared,
            rules=[[rule.amount, _us(rule.seconds + guard_seconds)] for rule in rules],
        )


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

    def limited_to(self, window: WindowRules, limit: Limit) -> EndpointRules:
        """Return the entry with one of its windows under another limit."""
        windows = [window if each.id == window.id else each for each in self.windows]
        rest = _us(limit.longest_seconds) if window.id == self.window else self.rest
        return msgspec.structs.replace(self, windows=windows, rest=rest)


class Rules(Part):
    """Publishes the rules; a change is in force for the next call of every lane."""

    _published: Mapping[str, str] = {}

    def publish(self, token: int, types: Sequence[EventType], expected: Mapping[Pair, Expected]) -> None:
        """Publish what `types`, in their order of use, and their endpoints with the limits in force mean for lanes.

        Raises:
            FencedError: another conductor leads.
        """
        guard_seconds = self._store.settings.run.guard_seconds
        entries = dict(_entries(types, expected, guard_seconds))
        kinds = {kind.name: f"{rank:05d} {kind.share:g}" for rank, kind in enumerate(types)}
        sharing: dict[str, list[str]] = {}
        for endpoint in {each.name: each for kind in types for each in kind.endpoints}.values():
            if endpoint.budget:
                sharing.setdefault(endpoint.budget.window_id, []).append(endpoint.name)
        known = {*entries, *(f"type {name}" for name in kinds), *(f"sharing {window}" for window in sharing)}
        gone = [field for raw in self._ask("HKEYS", self._keys.rules) if (field := text(raw)) not in known]
        gone = [field for field in gone if not field.startswith(("limit ", "filed "))]
        self._write(token, {}, {}, sharing, gone)
        for first in range(0, len(types), _AT_ONCE):
            chunk = types[first : first + _AT_ONCE]
            names = {endpoint.name for kind in chunk for endpoint in kind.endpoints}
            self._write(token, {name: entries[name] for name in names}, {kind.name: kinds[kind.name] for kind in chunk})
        self._published = entries

    def adjust(self, token: int, types: Sequence[EventType], expected: Mapping[Pair, Expected]) -> None:
        """Publish again what has changed since this process published last."""
        entries = dict(_entries(types, expected, self._store.settings.run.guard_seconds))
        changed = {name: entry for name, entry in entries.items() if self._published.get(name) != entry}
        names = list(changed)
        for first in range(0, len(names), 4 * _AT_ONCE):
            self._write(token, {name: changed[name] for name in names[first : first + 4 * _AT_ONCE]})
        self._published = entries

    def limit(self, limited: Limited, guard_seconds: float) -> None:
        """Put a limit that was set by hand in force, for every endpoint with this window."""
        shared = text(self._ask("HGET", self._keys.rules, f"sharing {limited.window_id}") or b"")
        names = msgspec.json.decode(shared, type=list[str]) if shared else [limited.name]
        window = WindowRules.of(limited, guard_seconds, shared=bool(shared))
        read = zip(names, self._ask("HMGET", self._keys.rules, *names), strict=True)
        entries = {name: msgspec.json.decode(raw, type=EndpointRules) for name, raw in read if raw}
        self._write("", {name: _encoded(entry.limited_to(window, limited.limit)) for name, entry in entries.items()})

    def limits_command(self, limited: Sequence[Limited]) -> Command:
        """Return the command whose reply `read_limits` reads."""
        return ("HMGET", self._keys.rules, *(f"limit {each.window_id}" for each in limited))

    def _write(
        self,
        token: int | str,
        rules: Mapping[str, str],
        types: Mapping[str, str] = {},
        sharing: Mapping[str, list[str]] = {},
        gone: Sequence[str] = (),
    ) -> None:
        self._run("write_rules", token=token, rules=rules, types=types, sharing=sharing, gone=gone)


def read_limits(texts: Sequence[bytes | None], limited: Sequence[Limited]) -> dict[str, str]:
    """Return the limits in force as text, by name, as far as they were published."""
    return {each.name: text(raw) for each, raw in zip(limited, texts, strict=True) if raw}


def _entries(
    types: Iterable[EventType], expected: Mapping[Pair, Expected], guard_seconds: float
) -> Iterator[tuple[str, str]]:
    """Yield each endpoint's name and entry."""
    endpoints: dict[str, Endpoint] = {}
    terms: dict[str, dict[str, tuple[str, int, int]]] = {}
    for kind in types:
        for rank, endpoint in enumerate(kind.endpoints):
            known = endpoints.setdefault(endpoint.name, endpoint)
            if endpoint.timeout_seconds > known.timeout_seconds:  # a lease must cover the calls of each of its types
                endpoints[endpoint.name] = endpoint
            call_us, need_us = (_us(read(kind, endpoint.name, expected)) for read in (call_seconds, needed_seconds))
            terms.setdefault(endpoint.name, {})[kind.name] = (f"{rank:04d}", call_us, need_us)
    for name, endpoint in endpoints.items():
        own, *budget = all_limited([endpoint])
        windows = [
            WindowRules.of(own, guard_seconds),
            *(WindowRules.of(each, guard_seconds, shared=True) for each in budget),
        ]
        entry = EndpointRules(
            window=endpoint.window_id,
            timeout=_us(endpoint.timeout_seconds),
            probe=_us(endpoint.timeout_seconds + LEASE_SLACK_SECONDS),
            rest=_us(endpoint.limit.longest_seconds),
            windows=windows,
            types=terms[name],
        )
        yield name, _encoded(entry)


def _encoded(entry: EndpointRules) -> str:
    return msgspec.json.encode(entry).decode()


def _us(seconds: float) -> int:
    return round(seconds * MICROSECONDS)
