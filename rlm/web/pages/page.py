"""A page: a function from documents to the values of a template, and its rendering as HTML. It knows no Redis.

This module also reads the query of a page, including the filter of a list, and makes addresses.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.datastructures import QueryParams
from starlette.requests import Request

from rlm import __version__
from rlm.core.clock import isoformat
from rlm.core.text import DURATIONS, capital, counted, one_line, safe_line, safe_words, seconds_of, span
from rlm.web.pages import plots
from rlm.web.pages.live import Documents

TEMPLATES: Final = Path(__file__).parents[1] / "templates"
#: Most characters of a search text.
_LONGEST_TEXT = 320


class Query(NamedTuple):
    """A request for a page: the parameter in its path, and its query as it was sent. Equal ones share an answer."""

    about: str
    text: str

    @classmethod
    def of(cls, request: Request) -> Query:
        """Read it from a request."""
        return cls(next(iter(request.path_params.values()), ""), request.url.query)

    def get(self, name: str, default: str = "") -> str:
        """Return the value of a parameter, the last one given."""
        return str(QueryParams(self.text).get(name, default))

    def all(self, name: str) -> list[str]:
        """Return all values of a parameter that are not empty."""
        return list(dict.fromkeys(filter(None, QueryParams(self.text).getlist(name))))


class ListFilter:
    """The filter of a list. Each method reads one parameter; `faults` collects what is invalid.

    A list with faults shows nothing: with half of a filter it would show, or drop, what nobody meant. `given` has the
    values that were read, so that a form, an address or a command can repeat them.
    """

    def __init__(self, path: str, question: Query) -> None:
        self.path = path
        self.question = question
        self.faults: list[str] = []
        self.given: dict[str, list[str]] = {}

    def choices(self, name: str, allowed: Collection[str]) -> frozenset[str]:
        """Return the values given for `name`, all of which must be `allowed`."""
        values = self.question.all(name)
        self.faults += [
            f"{name} {value!r} is not one of {', '.join(allowed)}" for value in values if value not in allowed
        ]
        self.given |= {name: values} if values else {}
        return frozenset(values)

    def text(self, name: str) -> str:
        """Return the text given for `name`."""
        text = self.question.get(name).strip()
        if len(text) > _LONGEST_TEXT:
            self.faults.append(f"{name} has {len(text):,} characters; at most {_LONGEST_TEXT} can be searched for")
        self.given |= {name: [text]} if text else {}
        return text

    def ago(self, name: str) -> float | None:
        """Return the duration given for `name` in seconds; None without one."""
        if not (text := self.text(name)):
            return None
        if not (seconds := seconds_of(text)) > 0:
            self.faults.append(f"{name} {text!r} is not a duration; write for example {DURATIONS}")
        return seconds

    def place(self, name: str) -> int:
        """Return the place in the list that is given for `name`, 0 without one. It is no part of the filter."""
        text = self.question.get(name) or "0"
        if not (text.isascii() and text.isdigit() and len(text) <= 9):  # noqa: PLR2004  # more than any list has
            self.faults.append(f"{name} {text!r} is not a place in this list")
            return 0
        return int(text)

    def address(self, **more: object) -> str:
        """Return the address of the same list, with `more` in its query."""
        return address(self.path, {**self.given, **{name: [str(value)] for name, value in more.items() if value}})

    @property
    def options(self) -> str:
        """The filter as options of a command, each after a space."""
        return "".join(f" --{name} {shlex.quote(value)}" for name, values in self.given.items() for value in values)


def address(path: str, query: Mapping[str, Collection[str]]) -> str:
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
    context: Callable[[Documents, Query], Mapping[str, object]]
    command: str = ""
    label: str = ""


class Viewer(NamedTuple):
    """Whether a page has buttons, the token that orders need, and whether one can log out."""

    may_write: bool
    csrf_token: str
    is_logged_in: bool


class Frame(NamedTuple):
    """The frame around every page: the navigation, the viewer, the time, and the present page."""

    pages: tuple[Page, ...]
    page: Page | None
    server: str
    now: float
    viewer: Viewer
    trouble: str = ""

    @property
    def clock(self) -> str:
        """The time of day in UTC."""
        return isoformat(self.now)[11:19]

    def is_at(self, page: Page) -> bool:
        """Return whether this is that page, or one below it."""
        return self.page is page or (self.page is not None and self.page.path.startswith(f"{page.path}/"))


def render(frame: Frame, template: str, values: Mapping[str, object]) -> str:
    """Render a page."""
    page = frame.page
    defaults = {"title": page.title, "command": page.command} if page else {"command": ""}
    return alone(template, frame=frame, may_write=frame.viewer.may_write, live=_live, **{**defaults, **values})


def _live(name: str, label: str, kind: str = "panel", *, caller: Callable[[], str]) -> Markup:
    """Make a section that is replaced when its HTML changes, with id, name for a screen reader, and class."""
    shape = Markup('<section id="{}" class="{}" data-live aria-label="{}">{}</section>')
    return shape.format(name, kind, label, Markup(caller()))  # noqa: S704  # it is already escaped


def alone(template: str, **values: object) -> str:
    """Render a template without the frame of the dashboard."""
    return _ENVIRONMENT.get_template(template).render(values)


def moment(when: str | float | datetime | None, kind: str = "ago") -> Markup | str:
    """Return a time as HTML, which the script shows: `ago`, `until` (counted down), `past` (counted up) or `clock`.

    `when` is an ISO 8601 text, as in every document. Without the script it is the time of day in UTC.
    """
    if not when:
        return "never"
    text = str(when)
    return Markup('<time datetime="{}" data-{}>{} UTC</time>').format(text, kind, text[11:19])


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
_ENVIRONMENT.filters |= {"capital": capital}
_ENVIRONMENT.globals |= {"plots": plots, "version": __version__}
