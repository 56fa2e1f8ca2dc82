"""The rules between settings. Each looks only at values right by themselves, so that all faults come at once.

A window belongs to a URL, so one name has one URL, one limit and one budget: two readings would exceed the limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlm.core.endpoint import Limit, Rule
from rlm.settings.document import leaves
from rlm.settings.faults import Fault, close_match, did_you_mean, fault
from rlm.settings.secrets import FROM_ENVIRONMENT, mask_url
from rlm.settings.toml import dotted
from rlm.settings.values import check_endpoint_url, check_header_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rlm.settings.document import Layers, Place

#: Ten shares of 0.1 are 1, whatever floating point makes of them.
_ROUNDING = 1e-9


def rule_faults(layers: Layers, environ: Mapping[str, str]) -> Iterator[Fault]:
    """Yield the faults between settings, and between settings and the environment."""
    yield from _at_most(layers, ("run", "window_seconds"), ("run", "every_seconds"))
    yield from _at_most(layers, ("workers", "min"), ("workers", "max"))
    yield from _list_names(layers)
    yield from _header_variables(layers, environ)
    yield from _shares(layers)
    yield from _endpoints(layers)
    yield from _budgets(layers)


def _at_most(layers: Layers, low: Place, high: Place) -> Iterator[Fault]:
    """Blame the setting that was set, if only one of the two was."""
    lower, upper = layers.valid(low), layers.valid(high)
    if lower is None or upper is None or lower <= upper:
        return
    if layers.where(low) == "default":
        yield fault(layers, high, f"must be at least {dotted(low)}, which is {lower:g} ({layers.where(low)})")
    else:
        yield fault(layers, low, f"must be at most {dotted(high)}, which is {upper:g} ({layers.where(high)})")


def _list_names(layers: Layers) -> Iterator[Fault]:
    prefix = layers.valid(("redis", "prefix"))
    seen: dict[str, Place] = {}
    for place in (("queue", key) for key in ("events", "processing", "failed")):
        name = layers.valid(place)
        if name is None:
            continue
        if prefix is not None and name.startswith(f"{prefix}:"):
            yield fault(
                layers, place, f"must not begin with {prefix + ':'!r}, where RLM keeps its own keys (redis.prefix)"
            )
        if name in seen:
            yield fault(layers, place, f"must be another list than {dotted(seen[name])}")
        seen.setdefault(name, place)


def _shares(layers: Layers) -> Iterator[Fault]:
    """Report the first type whose share no longer fits, with the shares given away before it."""
    given: dict[str, float] = {}
    for name in layers.named("types"):
        place = ("types", name, "share")
        share = layers.valid(place)
        if not share:
            continue
        given[name] = share
        if math.fsum(given.values()) > 1 + _ROUNDING:
            together = " + ".join(f"{name} {share:g}" for name, share in given.items())
            yield fault(layers, place, f"the shares of all types must be at most 1 together; {together} is more")
            return


def _header_variables(layers: Layers, environ: Mapping[str, str]) -> Iterator[Fault]:
    for place, _ in leaves(layers.named("types"), ("types",)):
        value = layers.valid(place) if "headers" in place[2:] else None
        if not isinstance(value, str) or not value.startswith(FROM_ENVIRONMENT):
            continue
        variable = value.removeprefix(FROM_ENVIRONMENT)
        secret = environ.get(variable)
        if not secret:
            yield fault(
                layers, place, f"header {place[-1]}: the environment variable {variable} is not set or empty; set it"
            )
            continue
        try:
            check_header_text(secret)
        except ValueError as error:
            yield fault(layers, place, f"header {place[-1]}: what the environment variable {variable} holds: {error}")


@dataclass(frozen=True, slots=True)
class _Mention:
    """An endpoint in one type. `rules` is None if its limit is faulty or missing, `budget` if it has none."""

    place: Place
    name: str
    url: str
    limit_place: Place
    rules: frozenset[Rule] | None
    budget: Any


def _endpoints(layers: Layers) -> Iterator[Fault]:
    """Check that a name or URL means the same in all types, and that every endpoint has a limit."""
    by_name: dict[str, _Mention] = {}
    by_url: dict[str, _Mention] = {}
    for mention in _mentions(layers):
        namesake = by_name.setdefault(mention.name, mention)
        neighbour = by_url.setdefault(mention.url, mention)
        if namesake.url != mention.url:
            problem = f"{mention.name!r} already stands for {mask_url(namesake.url)}; one name stands for one URL"
            yield _conflict(layers, (*mention.place, "url"), problem, namesake)
        elif neighbour.name != mention.name:
            problem = f"its URL already has the name {neighbour.name!r}; one URL has one name"
            yield _conflict(layers, (*mention.place, "name"), problem, neighbour)
        elif namesake is not mention:
            yield from _repeated(layers, namesake, mention)
    yield from _limits_missing(layers)


def _repeated(layers: Layers, first: _Mention, again: _Mention) -> Iterator[Fault]:
    """Check a second mention of an endpoint: several types may share it, one type needs it once."""
    if first.rules and again.rules and first.rules != again.rules:
        limit = layers.valid(first.limit_place)
        problem = f"{again.name!r} already has {limit!r}; one URL has one limit"
        yield _conflict(layers, again.limit_place, problem, first)
    elif first.budget != again.budget:
        budget = "none" if first.budget is None else f"the budget {first.budget!r}"
        problem = f"{again.name!r} already has {budget}; one URL has one budget"
        yield _conflict(layers, (*again.place, "budget"), problem, first)
    elif first.place[:2] == again.place[:2]:
        yield _conflict(layers, (*again.place, "name"), "this endpoint is listed twice; once is enough", first)


def _conflict(layers: Layers, place: Place, problem: str, other: _Mention) -> Fault:
    return fault(layers, place, f"{problem} (see {dotted(other.place)})")


def _mentions(layers: Layers) -> Iterator[_Mention]:
    """Yield the endpoints whose name and URL are right by themselves."""
    for place in layers.endpoints():
        name, url = layers.valid((*place, "name")), layers.valid((*place, "url"))
        if name is None or url is None:
            continue
        own = (*place, "rate_limit")
        limit_place = own if layers.find(own) is not None else (*place[:2], "rate_limit")
        limit = layers.valid(limit_place)
        rules = None if limit is None else frozenset(Limit.parse(limit).rules)
        yield _Mention(place, name, check_endpoint_url(url), limit_place, rules, layers.find((*place, "budget")))


def _limits_missing(layers: Layers) -> Iterator[Fault]:
    find = layers.find
    places = [(*place[:2], "rate_limit") for place in layers.endpoints() if find((*place, "rate_limit")) is None]
    for place in dict.fromkeys(places):
        if find(place) is None:
            yield fault(layers, place, 'is missing; give a limit such as "30/minute" here, or at each of its endpoints')


def _budgets(layers: Layers) -> Iterator[Fault]:
    """Check that each budget exists that an endpoint names, that each is named, and none named like an endpoint."""
    budgets = layers.named("budgets")
    named: set[str] = set()
    endpoints: dict[str | None, Place] = {}
    for place in layers.endpoints():
        endpoints.setdefault(layers.valid((*place, "name")), place)
        wanted = (*place, "budget")
        budget = layers.valid(wanted)
        if budget is None:
            continue
        named.add(budget)
        if budget not in budgets:
            near = did_you_mean(close_match(budget, budgets))
            table = dotted(("budgets", budget))
            yield fault(layers, wanted, f"there is no such budget{near}; add a table [{table}] with its rate_limit")
    for name in budgets:
        place = ("budgets", name)
        if layers.valid(place) is None:
            continue
        if name in endpoints:
            problem = f"an endpoint has this name; give one of them another (see {dotted(endpoints[name])})"
            yield fault(layers, place, problem)
        elif name not in named:
            problem = "no endpoint names this budget, so it would limit nothing; name it or take it out"
            yield fault(layers, place, problem)
