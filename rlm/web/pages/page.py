"""A page: a function that reads documents and returns the values of a template; its address, its rendering as HTML.

This module also reads the query of a page, including the filter of a list.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from msgspec import Struct, to_builtins
from starlette.datastructures import QueryParams

from rlm import __version__
from rlm.admin import words
from rlm.admin.endpoints import health_beside
from rlm.admin.errors import BadQuestionError
from rlm.admin.text import capital, one_line, safe_words, span
from rlm.core.clock import isoformat
from rlm.core.endpoint import Circuit
from rlm.core.text import counted, safe_line
from rlm.ledger.store import Store
from rlm.web.answers import of_query

TEMPLATES: Final = Path(__file__).parents[1] / "templates"


class Query(NamedTuple):
    """A request for a page: the parameter in its path, and its query as it was sent."""

    about: str
    text: str

    def get(self, name: str, default: str = "") -> str:
        """Return the value of a parameter, the last one given."""
        return str(QueryParams(self.text).get(name, default))


class ListFilter:
    """The filter of a list: what is `chosen`, if that passes a `check`, and from where on.

    With a `fault` nothing is listed: with half of a filter it would show, or drop, what nobody meant. `given` has the
    values that were read, so that a form or an address can repeat them.
    """

    def __init__(self, path: str, question: Query, kind: type[Struct], check: Callable[[Any], object]) -> None:
        self.path, self.fault = path, ""
        self.chosen: Any = kind()
        self.after = int(place[0]) if (place := re.fullmatch(r"[0-9]{1,9}", question.get("after"))) else 0
        given = [(name, value.strip()) for name, value in QueryParams(question.text).multi_items() if name != "after"]
        try:
            self.chosen = of_query([(name, value) for name, value in given if value], kind)
            check(self.chosen)
        except BadQuestionError as error:
            self.fault = str(error)
        self.given: dict[str, Any] = to_builtins(self.chosen)

    def address(self, after: int | None = 0) -> str:
        """Return the address of the same list from a place on; empty without a place."""
        return "" if after is None else address(self.path, {**self.given, "after": after})


def address(path: str, query: Mapping[str, object]) -> str:
    """Return the address of a page with the values of a query that are not empty."""
    text = urlencode({name: value for name, value in query.items() if value}, doseq=True)
    return f"{path}?{text}" if text else path


#: Makes a text a part of a path, whatever characters it contains.
quoted = partial(quote, safe=":")


class Page(NamedTuple):
    """One page. `context` reads documents and returns the values for `template`.

    `path` is a Starlette path. A page with a `label` is in the navigation. `command` is the command that shows the
    same; `context` may return another one, and another `title`.
    """

    path: str
    title: str
    template: str
    context: Callable[[Store, Query], Mapping[str, object]]
    command: str = ""
    label: str = ""


def render(template: str, **values: object) -> str:
    """Render a template."""
    return _ENVIRONMENT.get_template(template).render(values)


def moment(when: str | None, kind: str = "ago") -> Markup | str:
    """Return a time, ISO 8601, as HTML, which the script shows: `ago`, `until` (counted down) or `clock`.

    Without the script it is the time of day in UTC.
    """
    if not when:
        return "never"
    return Markup('<time datetime="{}" data-{}>{} UTC</time>').format(when, kind, when[11:19])


def said(text: str) -> Markup:
    """Return a sentence as HTML; text between backquotes is a command."""
    parts = safe_words(text).split("`")
    command = Markup("<code>{}</code>")
    return Markup("").join(command.format(part) if at % 2 else escape(part) for at, part in enumerate(parts))


def _visible(value: Any) -> Any:
    """Make control and other invisible characters of an untrusted text visible; it is escaped for HTML later."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else safe_line(value)


_ENVIRONMENT = Environment(
    loader=FileSystemLoader(TEMPLATES),
    autoescape=True,
    undefined=StrictUndefined,
    finalize=_visible,
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters |= {"span": span, "counted": counted, "number": "{:,}".format, "moment": moment, "words": said}
_ENVIRONMENT.filters |= {"one_line": one_line, "quoted": quoted, "capital": capital, "isoformat": isoformat}
_ENVIRONMENT.globals |= {"words": words, "health_beside": health_beside, "address": address, "version": __version__}
_ENVIRONMENT.globals |= vars(_ENVIRONMENT.get_template("parts.html").module)
_ENVIRONMENT.globals |= {
    "healths": dict.fromkeys(Circuit, "warn") | {Circuit.OK: "well", Circuit.FULL: "busy", Circuit.RESTING: "bad"},
}
