"""One name, one URL, one limit, one budget: a window belongs to a URL, so two readings of it would exceed its limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rlm.core.endpoint import Limit, Rule
from rlm.settings.masking import mask_url
from rlm.settings.toml import dotted
from rlm.settings.values import check_endpoint_url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.settings.faults import Fault, Sound
    from rlm.settings.layers import Place


@dataclass(frozen=True, slots=True)
class _Mention:
    """An endpoint as one type has it. `rules` is None where its limit is faulty or missing, `budget` where it is."""

    place: Place
    name: str
    url: str
    limit_place: Place
    rules: frozenset[Rule] | None
    budget: Any


def endpoint_faults(sound: Sound) -> Iterator[Fault]:
    """Check that all types mean the same by the same name and URL, and that every endpoint has a limit."""
    by_name: dict[str, _Mention] = {}
    by_url: dict[str, _Mention] = {}
    for mention in _mentions(sound):
        namesake = by_name.setdefault(mention.name, mention)
        neighbour = by_url.setdefault(mention.url, mention)
        if namesake.url != mention.url:
            problem = f"{mention.name!r} already stands for {mask_url(namesake.url)}; one name stands for one URL"
            yield sound.fault((*mention.place, "url"), _with_place(problem, namesake))
        elif neighbour.name != mention.name:
            problem = f"its URL already has the name {neighbour.name!r}; one URL has one name"
            yield sound.fault((*mention.place, "name"), _with_place(problem, neighbour))
        elif namesake is not mention:
            yield from _repeated(sound, namesake, mention)
    yield from _limits_missing(sound)


def _repeated(sound: Sound, first: _Mention, again: _Mention) -> Iterator[Fault]:
    """Check an endpoint that stands there a second time: several types may share it, a type needs it once."""
    if first.rules and again.rules and first.rules != again.rules:
        limit = sound.find(first.limit_place)
        problem = f"{again.name!r} already has {limit!r}; one URL has one limit"
        yield sound.fault(again.limit_place, _with_place(problem, first))
    elif first.budget != again.budget:
        problem = f"{again.name!r} already has {_budget(first)}; one URL has one budget"
        yield sound.fault((*again.place, "budget"), _with_place(problem, first))
    elif first.place[:2] == again.place[:2]:
        yield sound.fault((*again.place, "name"), _with_place("this endpoint is listed twice; once is enough", first))


def _budget(mention: _Mention) -> str:
    return "none" if mention.budget is None else f"the budget {mention.budget!r}"


def _with_place(problem: str, mention: _Mention) -> str:
    return f"{problem} (see {dotted(mention.place)})"


def _mentions(sound: Sound) -> Iterator[_Mention]:
    """Go through the endpoints whose name and URL are right by themselves."""
    for place in endpoint_places(sound):
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
    places = [(*place[:2], "rate_limit") for place in endpoint_places(sound) if find((*place, "rate_limit")) is None]
    for place in dict.fromkeys(places):
        if find(place) is None:
            yield sound.fault(place, 'is missing; give a limit such as "30/minute" here, or at each of its endpoints')


def endpoint_places(sound: Sound) -> Iterator[Place]:
    """Go through the places of all endpoints."""
    for name, table in sound.layers.types.items():
        endpoints = table.get("endpoints") if isinstance(table, dict) else None
        for number in range(len(endpoints) if isinstance(endpoints, list) else 0):
            yield "types", name, "endpoints", number
