"""The rules between settings. Each looks only at values right by themselves, so that all faults come at once.

A window belongs to a URL, so one name has one URL, one limit and one budget: two readings would exceed the limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlm.core.endpoint import Limit, Rule
from rlm.settings.document import leaves
from rlm.settings.faults import Fault, Sound, close_match, did_you_mean
from rlm.settings.secrets import FROM_ENVIRONMENT, mask_url
from rlm.settings.toml import dotted
from rlm.settings.values import check_endpoint_url, check_header_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rlm.settings.document import Layers, Place

#: Ten shares of 0.1 are 1, whatever floating point makes of them.
_ROUNDING = 1e-9


def rule_faults(layers: Layers, faulty: frozenset[Place], environ: Mapping[str, str]) -> Iterator[Fault]:
    """Yield the faults between settings, and between settings and the environment. `faulty` places are left out."""
    sound = Sound(layers, faulty)
    yield from _at_most(sound, ("run", "window_seconds"), ("run", "every_seconds"))
    yield from _at_most(sound, ("workers", "min"), ("workers", "max"))
    yield from _list_names(sound)
    yield from _header_variables(sound, environ)
    yield from _shares(sound)
    yield from _endpoints(sound)
    yield from _budgets(sound)


def _at_most(sound: Sound, low: Place, high: Place) -> Iterator[Fault]:
    """Blame the setting that was set, if only one of the two was."""
    lower, upper = sound.find(low), sound.find(high)
    if lower is None or upper is None or lower <= upper:
        return
    if sound.layers.where(low) == "default":
        yield sound.fault(high, f"must be at least {dotted(low)}, which is {lower:g} ({sound.layers.where(low)})")
    else:
        yield sound.fault(low, f"must be at most {dotted(high)}, which is {upper:g} ({sound.layers.where(high)})")


def _list_names(sound: Sound) -> Iterator[Fault]:
    prefix = sound.find(("redis", "prefix"))
    seen: dict[str, Place] = {}
    for place in (("queue", key) for key in ("events", "processing", "failed")):
        name = sound.find(place)
        if name is None:
            continue
        if prefix is not None and name.startswith(f"{prefix}:"):
            yield sound.fault(
                place, f"must not begin with {prefix + ':'!r}, where RLM keeps its own keys (redis.prefix)"
            )
        if name in seen:
            yield sound.fault(place, f"must be another list than {dotted(seen[name])}")
        seen.setdefault(name, place)


def _shares(sound: Sound) -> Iterator[Fault]:
    """Report the first type whose share no longer fits, with the shares given away before it."""
    given: dict[str, float] = {}
    for name in sound.layers.types:
        place = ("types", name, "share")
        share = sound.find(place)
        if not share:
            continue
        given[name] = share
        if math.fsum(given.values()) > 1 + _ROUNDING:
            together = " + ".join(f"{name} {share:g}" for name, share in given.items())
            yield sound.fault(place, f"the shares of all types must be at most 1 together; {together} is more")
            return


def _header_variables(sound: Sound, environ: Mapping[str, str]) -> Iterator[Fault]:
    for place, _ in leaves(sound.layers.types, ("types",)):
        value = sound.find(place) if "headers" in place[2:] else None
        if not isinstance(value, str) or not value.startswith(FROM_ENVIRONMENT):
            continue
        variable = value.removeprefix(FROM_ENVIRONMENT)
        secret = environ.get(variable)
        if not secret:
            yield sound.fault(
                place, f"header {place[-1]}: the environment variable {variable} is not set or empty; set it"
            )
            continue
        try:
            check_header_text(secret)
        except ValueError as error:
            yield sound.fault(place, f"header {place[-1]}: what the environment variable {variable} holds: {error}")


@dataclass(frozen=True, slots=True)
class _Mention:
    """An endpoint in one type. `rules` is None if its limit is faulty or missing, `budget` if it has none."""

    place: Place
    name: str
    url: str
    limit_place: Place
    rules: frozenset[Rule] | None
    budget: Any


def _endpoints(sound: Sound) -> Iterator[Fault]:
    """Check that a name or URL means the same in all types, and that every endpoint has a limit."""
    by_name: dict[str, _Mention] = {}
    by_url: dict[str, _Mention] = {}
    for mention in _mentions(sound):
        namesake = by_name.setdefault(mention.name, mention)
        neighbour = by_url.setdefault(mention.url, mention)
        if namesake.url != mention.url:
            problem = f"{mention.name!r} already stands for {mask_url(namesake.url)}; one name stands for one URL"
            yield _conflict(sound, (*mention.place, "url"), problem, namesake)
        elif neighbour.name != mention.name:
            problem = f"its URL already has the name {neighbour.name!r}; one URL has one name"
            yield _conflict(sound, (*mention.place, "name"), problem, neighbour)
        elif namesake is not mention:
            yield from _repeated(sound, namesake, mention)
    yield from _limits_missing(sound)


def _repeated(sound: Sound, first: _Mention, again: _Mention) -> Iterator[Fault]:
    """Check a second mention of an endpoint: several types may share it, one type needs it once."""
    if first.rules and again.rules and first.rules != again.rules:
        limit = sound.find(first.limit_place)
        problem = f"{again.name!r} already has {limit!r}; one URL has one limit"
        yield _conflict(sound, again.limit_place, problem, first)
    elif first.budget != again.budget:
        budget = "none" if first.budget is None else f"the budget {first.budget!r}"
        problem = f"{again.name!r} already has {budget}; one URL has one budget"
        yield _conflict(sound, (*again.place, "budget"), problem, first)
    elif first.place[:2] == again.place[:2]:
        yield _conflict(sound, (*again.place, "name"), "this endpoint is listed twice; once is enough", first)


def _conflict(sound: Sound, place: Place, problem: str, other: _Mention) -> Fault:
    return sound.fault(place, f"{problem} (see {dotted(other.place)})")


def _mentions(sound: Sound) -> Iterator[_Mention]:
    """Yield the endpoints whose name and URL are right by themselves."""
    for place in _endpoint_places(sound):
        name, url = sound.find((*place, "name")), sound.find((*place, "url"))
        if name is None or url is None:
            continue
        own = (*place, "rate_limit")
        limit_place = own if sound.layers.find(own) is not None else (*place[:2], "rate_limit")
        limit = sound.find(limit_place)
        rules = None if limit is None else frozenset(Limit.parse(limit).rules)
        yield _Mention(place, name, check_endpoint_url(url), limit_place, rules, sound.layers.find((*place, "budget")))


def _limits_missing(sound: Sound) -> Iterator[Fault]:
    find = sound.layers.find
    places = [(*place[:2], "rate_limit") for place in _endpoint_places(sound) if find((*place, "rate_limit")) is None]
    for place in dict.fromkeys(places):
        if find(place) is None:
            yield sound.fault(place, 'is missing; give a limit such as "30/minute" here, or at each of its endpoints')


def _endpoint_places(sound: Sound) -> Iterator[Place]:
    """Yield the places of all endpoints."""
    for name, table in sound.layers.types.items():
        endpoints = table.get("endpoints") if isinstance(table, dict) else None
        for number in range(len(endpoints) if isinstance(endpoints, list) else 0):
            yield "types", name, "endpoints", number


def _budgets(sound: Sound) -> Iterator[Fault]:
    """Check that each budget exists that an endpoint names, that each is named, and none named like an endpoint."""
    budgets = sound.layers.budgets
    named: set[str] = set()
    endpoints: dict[str | None, Place] = {}
    for place in _endpoint_places(sound):
        endpoints.setdefault(sound.find((*place, "name")), place)
        wanted = (*place, "budget")
        budget = sound.find(wanted)
        if budget is None:
            continue
        named.add(budget)
        if budget not in budgets:
            near = did_you_mean(close_match(budget, budgets))
            table = dotted(("budgets", budget))
            yield sound.fault(wanted, f"there is no such budget{near}; add a table [{table}] with its rate_limit")
    for name in budgets:
        place = ("budgets", name)
        if sound.find(place) is None:
            continue
        if name in endpoints:
            problem = f"an endpoint has this name; give one of them another (see {dotted(endpoints[name])})"
            yield sound.fault(place, problem)
        elif name not in named:
            problem = "no endpoint names this budget, so it would limit nothing; name it or take it out"
            yield sound.fault(place, problem)
