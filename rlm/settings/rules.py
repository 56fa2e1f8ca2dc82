"""The rules between settings, and between settings and the environment.

Each rule uses only values that are right by themselves, so all faults are found at once. A window belongs to a URL, so
one name has one URL, one limit and one budget; two versions of them would exceed the limit.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import msgspec

from rlm.core.endpoint import Limit, Rule
from rlm.core.text import did_you_mean
from rlm.settings.addresses import check_endpoint_url
from rlm.settings.layers import Layers
from rlm.settings.secrets import FROM_ENVIRONMENT, VARIABLE, resolve_url
from rlm.settings.section import Problem
from rlm.settings.toml import Place, dotted
from rlm.settings.values import check_header_text, check_name

#: Ten shares of 0.1 must count as 1 despite floating-point errors.
_ROUNDING = 1e-9
#: A call takes a slot in each window of its budget in one step of Redis, which grows with their number.
_MOST_OF_A_BUDGET = 100


def problems(layers: Layers, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong between settings, and between settings and the environment."""
    return chain(
        _at_most(layers, ("run", "window_seconds"), ("run", "every_seconds")),
        _at_most(layers, ("workers", "min"), ("workers", "max")),
        _list_names(layers),
        _names(layers),
        _variables(layers, environ),
        _shares(layers),
        _endpoints(layers, environ),
        _limits_missing(layers),
        _budgets(layers),
    )


def _at_most(layers: Layers, low: Place, high: Place) -> Iterator[Problem]:
    """Report the setting that was set, if only one of the two was."""
    lower, upper = layers.valid(low), layers.valid(high)
    if lower is None or upper is None or lower <= upper:
        return
    if layers.where(low) == "default":
        yield high, f"must be at least {dotted(low)}, which is {lower:g} ({layers.where(low)})"
    else:
        yield low, f"must be at most {dotted(high)}, which is {upper:g} ({layers.where(high)})"


def _list_names(layers: Layers) -> Iterator[Problem]:
    """Report, of two lists with the same name, one that was set."""
    prefix = layers.valid(("redis", "prefix"))
    seen: dict[str, Place] = {}
    places = [("queue", key) for key in ("events", "processing", "failed")]
    for place in sorted(places, key=lambda place: layers.where(place) != "default"):
        name = layers.valid(place)
        if name is None:
            continue
        if prefix is not None and name.startswith(f"{prefix}:"):
            yield place, f"must not begin with {prefix + ':'!r}, where RLM keeps its own keys (redis.prefix)"
        if name in seen:
            yield place, f"must be another list than {dotted(seen[name])}"
        seen.setdefault(name, place)


def _names(layers: Layers) -> Iterator[Problem]:
    for kind in ("types", "budgets"):
        for name in layers.named(kind):
            try:
                check_name(name)
            except ValueError as error:
                yield (kind, name), str(error)


def _variables(layers: Layers, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Check the variables that headers and URLs name."""
    for place in layers.endpoints():
        url, headers = layers.valid((*place, "url")), layers.valid((*place, "headers")) or {}
        for variable in VARIABLE.findall(url or ""):
            if not environ.get(variable):
                yield (*place, "url"), f"the environment variable {variable} is not set or empty; set it"
        for name, value in headers.items():
            if not value.startswith(FROM_ENVIRONMENT):
                continue
            variable, where = value.removeprefix(FROM_ENVIRONMENT), (*place, "headers", name)
            if not (secret := environ.get(variable)):
                yield where, f"header {name}: the environment variable {variable} is not set or empty; set it"
                continue
            try:
                check_header_text(secret)
            except ValueError as error:
                yield where, f"header {name}: the value of the environment variable {variable}: {error}"


def _shares(layers: Layers) -> Iterator[Problem]:
    """Report the first type whose share exceeds the total, with the shares of the types before it."""
    given: dict[str, float] = {}
    for name in layers.named("types"):
        place = ("types", name, "share")
        share = layers.valid(place)
        if not share:
            continue
        given[name] = share
        if math.fsum(given.values()) > 1 + _ROUNDING:
            together = " + ".join(f"{name} {share:g}" for name, share in given.items())
            yield place, f"the shares of all types must be at most 1 together; {together} is more"
            return


class _Mention(msgspec.Struct, frozen=True):
    """An endpoint in one type. `rules` is None if its limit is faulty or missing, `budget` if it has no budget."""

    place: Place
    name: str
    url: str
    limit_place: Place
    rules: frozenset[Rule] | None
    budget: Any

    def conflict(self, place: Place, problem: str) -> Problem:
        """Return a problem at `place` that contradicts this earlier mention."""
        return place, f"{problem} (see {dotted(self.place)})"


def _endpoints(layers: Layers, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Check each URL, and that a name or URL means the same endpoint in all types."""
    by_name: dict[str, _Mention] = {}
    by_url: dict[str, _Mention] = {}
    for place in layers.endpoints():
        name, url = layers.valid((*place, "name")), layers.valid((*place, "url"))
        if name is None or url is None:
            continue
        try:
            mention = _mention(layers, place, check_endpoint_url(resolve_url(url, environ)))
        except ValueError as error:
            yield (*place, "url"), str(error)
            continue
        namesake = by_name.setdefault(mention.name, mention)
        neighbour = by_url.setdefault(mention.url, mention)
        if namesake.url != mention.url:
            earlier = layers.find((*namesake.place, "url"))
            problem = f"{mention.name!r} already stands for {earlier}; one name stands for one URL"
            yield namesake.conflict((*mention.place, "url"), problem)
        elif neighbour.name != mention.name:
            problem = f"its URL already has the name {neighbour.name!r}; one URL has one name"
            yield neighbour.conflict((*mention.place, "name"), problem)
        elif namesake is not mention:
            yield from _repeated(layers, namesake, mention)


def _repeated(layers: Layers, first: _Mention, again: _Mention) -> Iterator[Problem]:
    """Check a second mention of an endpoint. Several types may share it, but one type may list it only once."""
    if first.rules and again.rules and first.rules != again.rules:
        limit = layers.valid(first.limit_place)
        yield first.conflict(again.limit_place, f"{again.name!r} already has {limit!r}; one URL has one limit")
    elif first.budget != again.budget:
        budget = "none" if first.budget is None else f"the budget {first.budget!r}"
        problem = f"{again.name!r} already has {budget}; one URL has one budget"
        yield first.conflict((*again.place, "budget"), problem)
    elif first.place[:2] == again.place[:2]:
        yield first.conflict((*again.place, "name"), "this endpoint is listed twice; once is enough")


def _mention(layers: Layers, place: Place, url: str) -> _Mention:
    own = (*place, "rate_limit")
    limit_place = own if layers.find(own) is not None else (*place[:2], "rate_limit")
    limit = layers.valid(limit_place)
    rules = None if limit is None else frozenset(Limit.parse(limit).rules)
    return _Mention(place, layers.find((*place, "name")), url, limit_place, rules, layers.find((*place, "budget")))


def _limits_missing(layers: Layers) -> Iterator[Problem]:
    find = layers.find
    places = [(*place[:2], "rate_limit") for place in layers.endpoints() if find((*place, "rate_limit")) is None]
    for place in dict.fromkeys(places):
        if find(place) is None:
            yield place, 'is missing; give a limit such as "30/minute" here, or at each of its endpoints'


def _budgets(layers: Layers) -> Iterator[Problem]:
    """Check that each budget that endpoints name exists, and that each is named, by few, and has a name of its own."""
    budgets = layers.named("budgets")
    members: dict[str, set[Any]] = defaultdict(set)
    endpoints: dict[Any, Place] = {}
    for place in layers.endpoints():
        name, budget = layers.valid((*place, "name")), layers.valid((*place, "budget"))
        endpoints.setdefault(name, place)
        if budget is None:
            continue
        members[budget].add(name)
        if budget not in budgets:
            near = did_you_mean(budget, budgets)
            table = dotted(("budgets", budget))
            yield (*place, "budget"), f"there is no such budget{near}; add a table [{table}] with its rate_limit"
    for name in budgets:
        place = ("budgets", name)
        if layers.valid(place) is None:
            continue
        if name in endpoints:
            yield place, f"an endpoint has this name; give one of them another (see {dotted(endpoints[name])})"
        elif name not in members:
            yield place, "no endpoint names this budget, so it would limit nothing; name it or take it out"
        elif len(members[name]) > _MOST_OF_A_BUDGET:
            number = len(members[name])
            yield place, f"{number} endpoints name this budget; at most {_MOST_OF_A_BUDGET} may share one"
