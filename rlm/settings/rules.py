"""The rules between settings, and between settings and the environment.

They are applied to what is right by itself: `Layers.read` leaves None in place of a section, type or endpoint that is
wrong. A window belongs to a URL, so one name has one URL, one limit and one budget; two versions of them would exceed
the limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TypeVar

from rlm.core.endpoint import Limit
from rlm.core.text import did_you_mean
from rlm.settings.checks import check_endpoint_url, check_header_text
from rlm.settings.model import Document, EndpointSettings
from rlm.settings.secrets import FROM_ENVIRONMENT, VARIABLE, resolve, resolve_url, unset
from rlm.settings.toml import Place, dotted

#: A place, and what is wrong there, in words that fit behind key and value. They never quote a value.
Problem = tuple[Place, str]
#: A call takes a slot in each window of its budget in one step of Redis, which grows with their number.
_MOST_OF_A_BUDGET = 100
_T = TypeVar("_T")


def problems(document: Document, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Yield what is wrong between settings, and between settings and the environment."""
    if (run := _if_right(document.run)) and run.window_seconds > run.every_seconds:
        yield ("run", "window_seconds"), f"must be at most run.every_seconds, which is {run.every_seconds:g}"
    if (workers := _if_right(document.workers)) and workers.min > workers.max:
        yield ("workers", "min"), f"must be at most workers.max, which is {workers.max}"
    yield from _list_names(document)
    shares = {name: kind.share for name, kind in document.types.items() if _if_right(kind) and kind.share}
    if sum(shares.values()) > 1 + 1e-9:  # ten shares of 0.1 are 1 despite floating-point errors
        words = " + ".join(f"{name} {share:g}" for name, share in shares.items())
        yield ("types", [*shares][-1], "share"), f"the shares of all types must be at most 1 together; {words} is more"
    yield from _endpoints(document, environ)
    yield from _budgets(document)


def _if_right(section: _T) -> _T | None:
    return section


def _list_names(document: Document) -> Iterator[Problem]:
    if not (queue := _if_right(document.queue)):
        return
    names = (queue.events, queue.processing, queue.failed)
    if len(set(names)) < len(names):
        yield ("queue", "failed"), f"the three lists must have different names, not {', '.join(map(repr, names))}"
    for key, name in zip(("events", "processing", "failed"), names, strict=True):
        if (redis := _if_right(document.redis)) and name.startswith(f"{redis.prefix}:"):
            yield ("queue", key), f"must not begin with '{redis.prefix}:', where RLM keeps its own keys (redis.prefix)"


def _placed(document: Document) -> Iterator[tuple[Place, EndpointSettings]]:
    """Yield each endpoint that is right, with its place."""
    for name, kind in document.types.items():
        for number, endpoint in enumerate(kind.endpoints if _if_right(kind) else ()):
            if _if_right(endpoint):
                yield ("types", name, "endpoints", number), endpoint


def _endpoints(document: Document, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Check URLs, headers and limits, and that a name or URL means the same endpoint in all types."""
    mentions: dict[tuple[str, object], tuple[Place, dict[str, object]]] = {}
    for place, endpoint in _placed(document):
        yield from _variables(place, endpoint, environ)
        kind = document.types[str(place[1])]
        limit = endpoint.rate_limit or kind.rate_limit
        if limit is None:
            yield (*place, "rate_limit"), 'is missing; give a limit such as "30/minute" here, or at the type'
            continue
        try:
            url = check_endpoint_url(resolve_url(endpoint.url, environ))
        except ValueError as error:
            yield (*place, "url"), str(error)
            continue
        rules = frozenset(Limit.parse(limit).rules)
        mention: dict[str, object] = {"name": endpoint.name, "url": url, "rate_limit": rules, "budget": endpoint.budget}
        for field in ("name", "url"):
            first, other = mentions.setdefault((field, mention[field]), (place, mention))
            differing = [key for key, value in mention.items() if other[key] != value]
            if differing:
                problem = f"is another at {dotted(first)}; one URL has one name, one limit, one budget"
                yield (*place, differing[0]), problem
                break
            if first[:2] == place[:2] and first != place:
                yield (*place, "name"), "this endpoint is listed twice; once is enough"
                break


def _variables(place: Place, endpoint: EndpointSettings, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Check the variables that the headers and the URL of an endpoint name."""
    for variable in VARIABLE.findall(endpoint.url):
        if not environ.get(variable):
            yield (*place, "url"), unset(variable)
    for name, value in endpoint.headers.items():
        if not value.startswith(FROM_ENVIRONMENT):
            continue
        try:
            if not check_header_text(resolve(value, environ)):
                yield (*place, "headers", name), unset(value)
        except ValueError as error:
            yield (*place, "headers", name), f"the value of the environment variable: {error}"


def _budgets(document: Document) -> Iterator[Problem]:
    """Check that each budget that endpoints name exists, and that each is named by few and has a name of its own."""
    budgets = document.budgets
    names = {endpoint.name: place for place, endpoint in _placed(document)}
    members = Counter({endpoint.name: endpoint.budget for _, endpoint in _placed(document)}.values())
    for place, endpoint in _placed(document):
        if endpoint.budget is not None and endpoint.budget not in budgets:
            near = did_you_mean(endpoint.budget, budgets)
            yield (*place, "budget"), f"there is no such budget{near}; add a table with its rate_limit"
    for name in budgets:
        if name in names:
            yield ("budgets", name), f"an endpoint has this name; give one of them another (see {dotted(names[name])})"
        if members[name] > _MOST_OF_A_BUDGET:
            yield ("budgets", name), f"{members[name]} endpoints name it; at most {_MOST_OF_A_BUDGET} may share one"
