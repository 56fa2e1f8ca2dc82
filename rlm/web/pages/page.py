"""A page: a function from documents to the values of a template, and its rendering as HTML. It knows no Redis.

This module also reads the query of a page, including the filter of a list, and makes addresses.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.requests import Request

from rlm import __version__
from rlm.core.clock import isoformat
from rlm.core.text import DURATIONS, counted, one_line, safe_line, safe_words, seconds_of, span
from rlm.web.pages import plots
from rlm.web.pages.live import Documents

TEMPLATES: Final = Path(__file__).parents[1] / "templates"
#: Most seconds that a filter may go back, a hundred years: more is a mistake.
_LONGEST_SECONDS = 100 * 366 * 86_400
#: Most characters of a search text.
_LONGEST_TEXT = 320


class Query(NamedTuple):
    """The parameters in path and query of a request. It is hashable, so equal requests share an answer."""

    path: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, request: Request) -> Query:
        """Read it from a request."""
        return cls(tuple(sorted(request.path_params.items())), tuple(request.query_params.multi_items()))

    def get(self, name: str, default: str = "") -> str:
        """Return the value of a parameter in path or query, the last one given."""
        return dict(self.query + self.path).get(name, default)

    def all(self, name: str) -> list[str]:
        """Return all values that the query has for a name."""
        return [value for key, value in self.query if key == name]


@dataclass
class ListFilter:
    """The filter of a list. Each method reads one parameter; `faults` collects what is invalid.

    A list with faults shows nothing: with half of a filter it would show, or drop, what nobody meant. `given` has the
    values that were read, so that a form, an address or a command can repeat them.
    """

    path: str
    question: Query
    faults: list[str] = field(default_factory=list)
    given: dict[str, list[str]] = field(default_factory=dict)

    def choices(self, name: str, allowed: Collection[str]) -> frozenset[str]:
        """Return the values given for `name`, all of which must be `allowed`."""
        found = list(dict.fromkeys(filter(None, self.question.all(name))))
        for one in found:
            if one not in allowed:
                self.faults.append(f"{name} {one!r} is not one of {', '.join(allowed)}")
        return frozenset(self._note(name, found))

    def text(self, name: str) -> str:
        """Return the text given for `name`."""
        found = self.question.get(name).strip()
        if len(found) > _LONGEST_TEXT:
            self.faults.append(f"{name} has {len(found):,} characters; at most {_LONGEST_TEXT} can be searched for")
        return "".join(self._note(name, [found] if found else []))

    def ago(self, name: str) -> float | None:
        """Return the duration given for `name` in seconds; None without one."""
        text = self.text(name)
        seconds = seconds_of(text) if text else 0.0
        if text and not 0 < seconds <= _LONGEST_SECONDS:
            self.faults.append(f"{name} {text!r} is not a duration; write for example {DURATIONS}")
        return seconds or None

    def number(self, name: str) -> int:
        """Return the whole number given for `name`, 0 without one. It is the position in a list, not a filter."""
        text = self.question.get(name)
        if text and not (text.isascii() and text.isdigit() and len(text) <= 9):  # noqa: PLR2004  # more than any list has
            self.faults.append(f"{name} {text!r} is not a place in this list")
            return 0
        return int(text or 0)

    def _note(self, name: str, found: list[str]) -> list[str]:
        if found:
            self.given[name] = found
        return found

    def one(self, name: str) -> str:
        """Return the value of the form's field for `name`."""
        return self.given.get(name, [""])[0]

    def address(self, **more: object) -> str:
        """Return the address of the same list, with `more` in its query."""
        return address(self.path, {**self.given, **{name: [str(one)] for name, one in more.items() if one}})

    def options(self, **more: str) -> str:
        """Return the filter, and `more`, as options of a command, each after a space."""
        told = [(name, one) for name, found in self.given.items() for one in found]
        return "".join(f" --{name} {shlex.quote(one)}" for name, one in [*told, *more.items()] if one)


def address(path: str, query: Mapping[str, Collection[str]]) -> str:
    """Return the address of a page with a query."""
    told = urlencode([(name, one) for name, found in query.items() for one in found])
    return f"{path}?{told}" if told else path


def event_address(event_id: str) -> str:
    """Return the address of the page that explains an event, whatever characters its id contains."""
    return f"/events/{quote(event_id, safe=':')}"


def run_address(run_id: str) -> str:
    """Return the address of the page of a run."""
    return f"/runs/{quote(run_id, safe='')}"


class Elsewhere(Exception):  # noqa: N818  # not an error
    """Raised by a context: the request is answered at `address`, a path on this site."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


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
    """The viewer of a page: whether it has buttons, the token that orders need, and whether it can log out."""

    may_write: bool = False
    csrf_token: str = ""
    is_logged_in: bool = False


class Frame(NamedTuple):
    """The frame around every page: the navigation, the viewer, the time, and the present page."""

    pages: tuple[Page, ...]
    page: Page | None
    server: str
    now: float
    viewer: Viewer = Viewer()  # may only look
    trouble: str = ""

    @property
    def clock(self) -> str:
        """The time of day in UTC."""
        return isoformat(self.now)[11:19]

    @property
    def may_write(self) -> bool:
        """Whether there are buttons that write."""
        return self.viewer.may_write

    def is_at(self, page: Page) -> bool:
        """Return whether this is that page, or one below it."""
        return self.page is page or (self.page is not None and self.page.path.startswith(f"{page.path}/"))


def render(frame: Frame, template: str, values: Mapping[str, object]) -> str:
    """Render a page."""
    page = frame.page
    known = {"title": page.title, "command": page.command} if page else {"command": ""}
    return alone(template, frame=frame, live=_live, **{**known, **values})


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
_ENVIRONMENT.globals |= {"plots": plots, "version": __version__}
