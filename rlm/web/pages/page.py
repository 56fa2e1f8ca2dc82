"""A page: a function from documents to the values of a template, and how that becomes HTML. It knows no Redis."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from rlm import __version__
from rlm.core.text import counted, safe_line, safe_words, span
from rlm.web.pages import plots

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from starlette.requests import Request

    from rlm.web.pages.documents import Documents

TEMPLATES: Final = Path(__file__).parents[1] / "templates"


class Query(NamedTuple):
    """What a request asks of a page: what its path and its query say. It is hashable, so equal ones share an answer."""

    path: tuple[tuple[str, str], ...] = ()
    query: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, request: Request) -> Query:
        """Read it from a request."""
        return cls(tuple(sorted(request.path_params.items())), tuple(request.query_params.multi_items()))

    def get(self, name: str, default: str = "") -> str:
        """Return the value of a part of the path or of the query, the last one given."""
        return dict(self.query + self.path).get(name, default)

    def all(self, name: str) -> list[str]:
        """Return each value that the query gives for a name."""
        return [value for key, value in self.query if key == name]


class Elsewhere(Exception):  # noqa: N818  # no error
    """Raised by a context: what is asked for is shown at `address`, a path on this site."""

    def __init__(self, address: str) -> None:
        super().__init__(address)
        self.address = address


@dataclass(frozen=True, slots=True)
class Page:
    """One page. `context` reads documents and returns the values for `template`.

    `path` is a Starlette path. A page with a `label` stands in the navigation. `command` is the command that shows the
    same; a context may replace it by its own value `command`, and `title` likewise.
    """

    path: str
    title: str
    template: str
    context: Callable[[Documents, Query], Mapping[str, Any]]
    command: str = ""
    label: str = ""


class Viewer(NamedTuple):
    """Who looks at a page: whether there are buttons for them, what the script sends with each order, and a log-out."""

    may_write: bool = False
    csrf_token: str = ""
    is_logged_in: bool = False


#: One who may look, and no more.
NOBODY: Final = Viewer()


@dataclass(frozen=True, slots=True)
class Frame:
    """What stands around the content of every page: the pages to go to, who looks, when and at what."""

    pages: tuple[Page, ...]
    page: Page | None
    server: str
    now: float
    viewer: Viewer = NOBODY
    trouble: str = ""

    @property
    def may_write(self) -> bool:
        """Whether there are buttons that write."""
        return self.viewer.may_write

    def has(self, path: str) -> bool:
        """Return whether there is a page at this path."""
        return any(page.path == path for page in self.pages)

    def is_at(self, page: Page) -> bool:
        """Return whether this is that page, or one below it."""
        return self.page is page or (self.page is not None and self.page.path.startswith(f"{page.path}/"))


@dataclass(slots=True)
class Rendered:
    """The HTML of a page, and by id that of each of its live sections."""

    html: str = ""
    sections: dict[str, str] = field(default_factory=dict)


def render(frame: Frame, template: str, values: Mapping[str, Any]) -> Rendered:
    """Render a page."""
    rendered = Rendered()

    def live(name: str, label: str, kind: str = "panel", *, caller: Callable[[], str]) -> Markup:
        """Make a section that is replaced whenever its HTML changes: its id, its name for a screen reader, its class.

        It must stand on the page whatever the state is; what is in it may be nothing.
        """
        rendered.sections[name] = str(caller())
        shape = Markup('<section id="{}" class="{}" data-live aria-label="{}">{}</section>')
        return shape.format(name, kind, label, Markup(rendered.sections[name]))  # noqa: S704  # it was escaped there

    page = frame.page
    known = {"title": page.title, "command": page.command} if page else {"command": ""}
    rendered.html = _ENVIRONMENT.get_template(template).render({"frame": frame, "live": live, **known, **values})
    return rendered


def alone(template: str, **values: str) -> str:
    """Render a template that stands alone, without the frame of the dashboard."""
    return _ENVIRONMENT.get_template(template).render(values)


def moment(when: str | float | datetime | None, kind: str = "ago") -> Markup | str:
    """Return a time as HTML, which the script shows relative to now: `ago`, `until` (a countdown) or `clock`.

    `when` is an ISO 8601 text, as in every document. Without the script it is the time of day in UTC.
    """
    if not when:
        return "never"
    text = str(when)
    return Markup('<time datetime="{}" data-{}>{} UTC</time>').format(text, kind, text[11:19])


def words(text: str) -> Markup:
    """Return a sentence as HTML: what stands between backquotes in it is a command."""
    parts = safe_words(text).split("`")
    command = Markup("<code>{}</code>")
    return Markup("").join(command.format(part) if at % 2 else escape(part) for at, part in enumerate(parts))


def _visible(value: Any) -> Any:
    """Make control and other invisible characters of a text from outside visible; it is escaped for HTML afterwards."""
    return value if isinstance(value, Markup) or not isinstance(value, str) else safe_line(value)


def _environment() -> Environment:
    made = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters |= {"span": span, "counted": counted, "number": "{:,}".format, "moment": moment, "words": words}
    made.globals |= {"plots": plots, "version": __version__}
    return made


_ENVIRONMENT = _environment()
