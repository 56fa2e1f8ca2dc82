"""A page: a function that reads documents and returns the values of a template; its address, its rendering as HTML.

This module also reads the query of a page, including the filter of a list.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from msgspec import to_builtins
from starlette.datastructures import QueryParams

from rlm import __version__
from rlm.core.clock import isoformat
from rlm.core.endpoint import Circuit
from rlm.core.errors import BadQuestionError
from rlm.core.text import capital, counted, one_line, safe_line, safe_words, span
from rlm.ledger.store import Store
from rlm.web.answers import of_query
from rlm.web.pages import plots

TEMPLATES: Final = Path(__file__).parents[1] / "templates"


class Query(NamedTuple):
    """A request for a page: the parameter in its path, and its query as it was sent."""

    about: str
    text: str

    def get(self, name: str, default: str = "") -> str:
        """Return the value of a parameter, the last one given."""
        return str(QueryParams(self.text).get(name, default))


class ListFilter:
    """The filter of a list, of a `kind` that has `chosen()` and a place `after`: what is chosen, and from where on.

    With a `fault` nothing is listed: with half of a filter it would show, or drop, what nobody meant. `given` has the
    values that were read, so that a form or an address can repeat them.
    """

    def __init__(self, path: str, question: Query, kind: type[Any]) -> None:
        self.path, self.fault, asked = path, "", kind()
        parameters = ((name, value.strip()) for name, value in QueryParams(question.text).multi_items())
        try:
            asked = of_query([(name, value) for name, value in parameters if value], kind)
            self.chosen = asked.chosen()
        except BadQuestionError as error:
            self.fault = str(error)
        self.given: dict[str, Any] = to_builtins(asked)
        self.after: int = self.given.pop("after", 0)

    def address(self, after: int = 0) -> str:
        """Return the address of the same list from a place on."""
        return address(self.path, {**self.given, **({"after": after} if after else {})})


def address(path: str, query: Mapping[str, object]) -> str:
    """Return the address of a page with a query."""
    return f"{path}?{urlencode(query, doseq=True)}" if query else path


def event_address(event_id: str) -> str:
    """Return the address of the page that explains an event, whatever characters its id contains."""
    return f"/events/{quote(event_id, safe=':')}"


def run_address(run_id: str) -> str:
    """Return the address of the page of a run."""
    return f"/runs/{quote(run_id, safe='')}"


class Page(NamedTuple):
    """One page. `context` reads documents and returns the values for `template`.

    `path` is a Starlette path. A page with a `label` is in the navigation. `command` is the command that shows the
    same; a context may replace it by its own value `command`, and `title` likewise.
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


def _live(name: str, label: str, kind: str = "panel", *, caller: Callable[[], Markup]) -> Markup:
    """Make a section that is replaced when its HTML changes, with id, name for a screen reader, and class."""
    shape = Markup('<section id="{}" class="{}" data-live aria-label="{}">{}</section>')
    return shape.format(name, kind, label, caller())


def moment(when: str | None, kind: str = "ago") -> Markup | str:
    """Return a time, ISO 8601, as HTML, which the script shows: `ago`, `until` (counted down) or `clock`.

    Without the script it is the time of day in UTC.
    """
    if not when:
        return "never"
    return Markup('<time datetime="{}" data-{}>{} UTC</time>').format(when, kind, when[11:19])


def words(text: str) -> Markup:
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
_ENVIRONMENT.filters |= {"span": span, "counted": counted, "number": "{:,}".format, "moment": moment, "words": words}
_ENVIRONMENT.filters |= {"one_line": one_line, "event_address": event_address, "run_address": run_address}
_ENVIRONMENT.filters |= {"capital": capital, "isoformat": isoformat}
_ENVIRONMENT.globals |= {
    "parts": _ENVIRONMENT.get_template("parts.html").module,
    "plots": plots,
    "version": __version__,
    "live": _live,
    "server": secrets.token_hex(4),  # lets a page notice that another process serves it now; it then reloads itself
    "healths": dict.fromkeys(Circuit, "warn") | {Circuit.OK: "well", Circuit.FULL: "busy", Circuit.RESTING: "bad"},
}
