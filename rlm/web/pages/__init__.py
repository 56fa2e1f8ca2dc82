"""The dashboard: its pages, and how each is answered. The script asks for a page again to replace what changed in it.

docs/development.md explains how to add a page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from threading import Lock
from typing import Final, TypeAlias

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from rlm.admin.report import runs_beginning
from rlm.core.clock import isoformat, system_clock
from rlm.core.errors import RLMError, StoreError, StoreRefusingError, StoreUnreachableError
from rlm.ledger.store import Store
from rlm.web.pages import endpoints, events, runs, whatif
from rlm.web.pages.page import TEMPLATES, Page, Query, quoted, render

#: Every page, in the order of the navigation.
PAGES: Final = (runs.NOW, *endpoints.PAGES[:1], *runs.PAGES, *events.PAGES, whatif.PAGE, *endpoints.PAGES[1:])

_Values: TypeAlias = Mapping[str, object] | RLMError


class _Pages:
    """Answers requests for pages. A browser asks for its page every five seconds; all viewers share what is read."""

    def __init__(self, store: Store) -> None:
        self._store, self._lock = store, Lock()
        self._shared: dict[tuple[Page, Query], tuple[_Values, float]] = {}

    def handler(self, page: Page) -> Callable[[Request], object]:
        """Return what answers a request for a page."""

        def answer(request: Request) -> Response:
            question = Query(next(iter(request.path_params.values()), ""), request.url.query)
            values = self._values(page, question)
            return _framed(request, page, values) if isinstance(values, Mapping) else _trouble(request, page, values)

        return answer

    def _values(self, page: Page, question: Query) -> _Values:
        """Return what a page shows, or why it cannot, a second old or three times as old as it takes to read.

        One thread at a time reads, however many are asked.
        """
        with self._lock:
            if len(self._shared) > 200:  # noqa: PLR2004  # anybody may ask for any address
                self._shared.clear()
            values, good_until = self._shared.get((page, question), ({}, float("-inf")))
            if (began := system_clock.monotonic()) >= good_until:
                try:
                    values = page.context(self._store, question)
                except RLMError as error:
                    values = error
                now = system_clock.monotonic()
                self._shared[page, question] = values, now + max(0.9, 3 * (now - began))
            return values


def page_routes(store: Store) -> list[BaseRoute]:
    """Return the routes of all pages, of the search, and of `/static`."""

    def search(request: Request) -> Response:
        """Lead to the page of the run whose id begins with the text, else to that of the event or item."""
        text = request.query_params.get("q", "").strip()[:1000]
        is_run = len(text) >= len("20261125") and runs_beginning(store, text)
        return RedirectResponse(f"/{'runs' if is_run else 'events'}/{quoted(text)}", 303)

    pages, static = _Pages(store), StaticFiles(directory=TEMPLATES.with_name("static"))
    routes = [Route(page.path, pages.handler(page)) for page in PAGES]
    return [*routes, Route("/search", search), Mount("/static", static, name="static")]


def missing_page(request: Request) -> Response:
    """Return the page for an unknown address."""
    return _trouble(request, Page("", "Not found", "", lambda *_: {}), RLMError("There is no page at this address"))


def _trouble(request: Request, page: Page, error: RLMError) -> Response:
    """Return the page that says why another cannot be shown, without the address of Redis."""
    is_away, why = isinstance(error, StoreError), str(error).rstrip(".")
    if is_away:
        is_silent = isinstance(error, StoreUnreachableError) and not isinstance(error, StoreRefusingError)
        why = "Redis does not answer" if is_silent else "Redis refuses, or holds, what this page cannot use"
    values = {"is_away": is_away, "why": why, "trouble": why if is_away else "", "is_live": is_away}
    return _framed(request, page._replace(template="trouble.html"), values, 503 if is_away else 404)


def _framed(request: Request, page: Page, values: Mapping[str, object], status: int = 200) -> Response:
    """Return a page in the frame of all, which has the navigation and the time."""
    now, session = system_clock.now(), request.session
    frame = {"page": page, "pages": PAGES, "session": session, "now_at": now, "clock": isoformat(now)[11:19]}
    defaults = {
        "title": page.title,
        "command": page.command,
        "trouble": "",
        "is_live": True,
        "may_write": bool(session),
    }
    return HTMLResponse(render(page.template, **{**frame, **defaults, **values}), status)
