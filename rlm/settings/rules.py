"""The rules between settings, and warnings about allowed values that are probably mistakes.

Each rule uses only values that are right by themselves, so all faults are found at once. A window belongs to a URL, so
one name has one URL, one limit and one budget; two versions of them would exceed the limit.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec

from rlm.core.endpoint import Limit, Rule, all_limited
from rlm.settings.addresses import check_endpoint_url
from rlm.settings.document import SECTIONS, Layers, fields_at, leaves
from rlm.settings.faults import Fault, did_you_mean, fault
from rlm.settings.kinds import Place
from rlm.settings.secrets import FROM_ENVIRONMENT, mask_url
from rlm.settings.sources import variable_name
from rlm.settings.toml import dotted
from rlm.settings.values import check_header_text

if TYPE_CHECKING:
    from rlm.settings import Settings

    #: The place of a setting and its fault.
    Problem = tuple[Place, str]

#: Ten shares of 0.1 must count as 1 despite floating-point errors.
_ROUNDING = 1e-9


def rule_faults(layers: Layers, environ: Mapping[str, str]) -> Iterator[Fault]:
    """Return the faults between settings, and between settings and the environment."""
    found = chain(
        _at_most(layers, ("run", "window_seconds"), ("run", "every_seconds")),
        _at_most(layers, ("workers", "min"), ("workers", "max")),
        _list_names(layers),
        _header_variables(layers, environ),
        _shares(layers),
        _endpoints(layers),
        _limits_missing(layers),
        _budgets(layers),
    )
    return (fault(layers, place, problem) for place, problem in found)


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
    for place in sorted(places, key=lambda one: layers.where(one) != "default"):
        name = layers.valid(place)
        if name is None:
            continue
        if prefix is not None and name.startswith(f"{prefix}:"):
            yield place, f"must not begin with {prefix + ':'!r}, where RLM keeps its own keys (redis.prefix)"
        if name in seen:
            yield place, f"must be another list than {dotted(seen[name])}"
        seen.setdefault(name, place)


def _header_variables(layers: Layers, environ: Mapping[str, str]) -> Iterator[Problem]:
    for place, _ in leaves(layers.named("types"), ("types",)):
        value = layers.valid(place) if "headers" in place[2:] else None
        if not isinstance(value, str) or not value.startswith(FROM_ENVIRONMENT):
            continue
        variable = value.removeprefix(FROM_ENVIRONMENT)
        secret = environ.get(variable)
        if not secret:
            yield place, f"header {place[-1]}: the environment variable {variable} is not set or empty; set it"
            continue
        try:
            check_header_text(secret)
        except ValueError as error:
            yield place, f"header {place[-1]}: the value of the environment variable {variable}: {error}"


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


def _endpoints(layers: Layers) -> Iterator[Problem]:
    """Check that a name or URL means the same endpoint in all types."""
    by_name: dict[str, _Mention] = {}
    by_url: dict[str, _Mention] = {}
    for mention in _mentions(layers):
        namesake = by_name.setdefault(mention.name, mention)
        neighbour = by_url.setdefault(mention.url, mention)
        if namesake.url != mention.url:
            problem = f"{mention.name!r} already stands for {mask_url(namesake.url)}; one name stands for one URL"
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


def _limits_missing(layers: Layers) -> Iterator[Problem]:
    find = layers.find
    places = [(*place[:2], "rate_limit") for place in layers.endpoints() if find((*place, "rate_limit")) is None]
    for place in dict.fromkeys(places):
        if find(place) is None:
            yield place, 'is missing; give a limit such as "30/minute" here, or at each of its endpoints'


def _budgets(layers: Layers) -> Iterator[Problem]:
    """Check that each budget that an endpoint names exists, and that each budget is named and has a name of its own."""
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
            near = did_you_mean(budget, budgets)
            table = dotted(("budgets", budget))
            yield wanted, f"there is no such budget{near}; add a table [{table}] with its rate_limit"
    for name in budgets:
        place = ("budgets", name)
        if layers.valid(place) is None:
            continue
        if name in endpoints:
            yield place, f"an endpoint has this name; give one of them another (see {dotted(endpoints[name])})"
        elif name not in named:
            yield place, "no endpoint names this budget, so it would limit nothing; name it or take it out"


def warnings_of(settings: Settings, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return a sentence for each value that is probably a mistake, and for each variable without effect.

    It names the key, the value and the consequence, and contains no value that may be secret.
    """
    return [*_long_calls(settings), *_long_guard(settings), *_short_variables(settings, environ)]


def _long_calls(settings: Settings) -> Iterator[str]:
    """Yield a warning for each type that cannot make a call within a run, or within the run's target."""
    run = settings.run
    planned = run.target * run.window_seconds
    for one in settings.event_types:
        called = f"types.{one.name}.processing_seconds = {one.processing_seconds:g}"
        if one.processing_seconds >= run.window_seconds:
            yield f"{called}: no call is expected to be answered in a run, run.window_seconds = {run.window_seconds:g}"
        elif one.processing_seconds > planned:
            yield f"{called}: run.target = {run.target:g} is {planned:g} s of the window, too short for such a call"


def _long_guard(settings: Settings) -> Iterator[str]:
    """Yield a warning for each limit that loses half or more to the guard, which lengthens every period."""
    guard_seconds = settings.run.guard_seconds
    for one in all_limited(settings.endpoints.values()):
        shortest = min(rule.seconds for rule in one.limit.rules)
        if guard_seconds >= shortest:
            yield (
                f"run.guard_seconds = {guard_seconds:g}: the limit of {one.name}, {one.limit.text}, has a period of "
                f"{shortest:g} s; with the guard at most {shortest / (shortest + guard_seconds):.0%} of the limit is "
                "used"
            )


def _short_variables(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield a warning for each variable that would set something if it had two underscores instead of one."""
    tables: list[tuple[str, ...]] = [(name,) for name in SECTIONS]
    tables += [("types", name) for name in settings.types]
    known = [variable_name((*table, key)) for table in tables for key in fields_at(table) if key != "endpoints"]
    meant = {_squeezed(name): name for name in known}
    for variable in sorted(environ):
        name = meant.get(_squeezed(variable.upper()))
        if name and "__" not in variable:
            yield f"environment {variable}: sets nothing; {name} would, with two underscores"


def _squeezed(name: str) -> str:
    return re.sub("_+", "_", name)
