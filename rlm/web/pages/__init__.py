"""The dashboard: its pages, and how each is answered. The script asks for a page again to replace what changed in it.

docs/development.md explains how to add a page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from rlm.core.clock import system_clock
from rlm.core.errors import RLMError, StoreError
from rlm.ledger.store import Store
from rlm.web.pages import endpoints, events, now, runs, whatif
from rlm.web.pages.live import SERVER, Documents, is_silent
from rlm.web.pages.page import TEMPLATES, Elsewhere, Frame, Page, Query, Viewer, render
from rlm.web.session import visit_of

#: Every page, in the order of the navigation.
PAGES: Final = (*(now.PAGE, endpoints.PAGE, *runs.PAGES, *events.PAGES, whatif.PAGE, endpoints.COMPLIANCE),)

_NOT_FOUND, _UNAVAILABLE = 404, 503
MISSING: Final = "There is no page at this address; the existing pages are listed above"


def page_routes(store: Store) -> list[BaseRoute]:
    """Return the routes of all pages and of `/static`."""
    site = _Site(store)
    static = StaticFiles(directory=TEMPLATES.with_name("static"))
    pages = [Route(page.path, site.endpoint(page)) for page in PAGES]
    return [*pages, Mount("/static", static, name="static")]


def missing_page(request: Request) -> Response:
    """Return the page for an unknown address."""
    frame = Frame(PAGES, None, SERVER, system_clock.now(), _viewer_of(request), MISSING)
    html = render(frame, "trouble.html", {"title": "Not found", "is_away": False, "why": MISSING})
    return HTMLResponse(html, _NOT_FOUND)


def _viewer_of(request: Request) -> Viewer:
    """Return the viewer of the page that answers `request`. A page that sends nothing gets no CSRF token."""
    visit = visit_of(request)
    writes, leaves = visit.may_write, visit.is_logged_in
    return Viewer(writes, visit.csrf_token() if writes or leaves else "", leaves)


class _Site:
    """Answers requests for pages."""

    def __init__(self, store: Store) -> None:
        self._documents = Documents(store)

    def endpoint(self, page: Page) -> Callable[[Request], object]:
        """Return the handler of a page."""

        async def answer(request: Request) -> Response:
            question, viewer = Query.of(request), _viewer_of(request)
            try:
                html, status = await run_in_threadpool(self._page, page, question, viewer)
            except Elsewhere as found:
                return RedirectResponse(found.address, 303)
            return HTMLResponse(html, status)

        return answer

    def _page(self, page: Page, question: Query, viewer: Viewer) -> tuple[str, int]:
        """Return a page with its status; a page with the reason if it cannot be shown."""
        try:
            values = page.context(self._documents, question)
            return render(Frame(PAGES, page, SERVER, system_clock.now(), viewer), page.template, values), 200
        except StoreError as error:
            trouble, why, status = self._documents.away(error), str(error), _UNAVAILABLE
            silent = is_silent(error)
        except RLMError as error:
            trouble = why = str(error).rstrip(".")
            status, silent = _NOT_FOUND, False
        frame = Frame(PAGES, page, SERVER, system_clock.now(), viewer, trouble)
        context = {"is_away": status == _UNAVAILABLE, "is_silent": silent, "why": why.rstrip(".")}
        return render(frame, "trouble.html", context), status
