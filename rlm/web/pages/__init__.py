"""The dashboard: its pages, and how each is answered, as a whole or section by section.

docs/development.md explains how to add a page.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from rlm.core.clock import system_clock
from rlm.core.errors import RLMError, StoreError
from rlm.ledger import Store
from rlm.ledger.trouble import revive
from rlm.web.pages import endpoints, events, now, runs, whatif
from rlm.web.pages.live import SERVER, Documents, LiveState, is_silent, told
from rlm.web.pages.page import TEMPLATES, Elsewhere, Frame, Page, Query, Rendered, Viewer, render
from rlm.web.session import visit_of

#: Every page, in the order of the navigation.
PAGES: Final = (*(now.PAGE, endpoints.PAGE, *runs.PAGES, *events.PAGES, whatif.PAGE, endpoints.COMPLIANCE),)

_NOT_FOUND, _UNAVAILABLE = 404, 503
MISSING: Final = "There is no page at this address; the existing pages are listed above"
FAULT: Final = "this page cannot be made; the log of rlm web says why"

log = logging.getLogger(__name__)


def page_routes(store: Store) -> list[BaseRoute]:
    """Return the routes of all pages and of `/static`."""
    site = _Site(store)
    static = StaticFiles(directory=TEMPLATES.with_name("static"))
    pages = [Route(page.path, site.endpoint(page)) for page in PAGES]
    return [*pages, Mount("/static", static, name="static")]


def missing_page(request: Request) -> Response:
    """Return the page for an unknown address."""
    frame = Frame(PAGES, None, SERVER, system_clock.now(), _viewer_of(request), MISSING)
    return HTMLResponse(
        render(frame, "trouble.html", {"title": "Not found", "is_away": False, "why": MISSING}).html, _NOT_FOUND
    )


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
        """Return the handler of a page: the whole page, or its live sections as JSON."""

        async def answer(request: Request) -> Response:
            question, viewer = Query.of(request), _viewer_of(request)
            if request.headers.get("Accept", "").startswith("application/json"):
                state = await run_in_threadpool(partial(self._state, page, question, may_write=viewer.may_write))
                return Response(told(state), media_type="application/json")
            try:
                rendered, status = await run_in_threadpool(self._page, page, question, viewer)
            except Elsewhere as found:
                return RedirectResponse(found.address, 303)
            return HTMLResponse(rendered.html, status)

        return answer

    def _state(self, page: Page, question: Query, *, may_write: bool) -> LiveState:
        """Return the live sections of a page, or why there are none now."""
        try:
            return LiveState(self._render(page, question, Viewer(may_write)).sections)
        except StoreError as error:
            revive(self._documents.store)
            return LiveState(trouble=self._documents.away(error))
        except Elsewhere as found:  # only one match is left
            return LiveState(trouble=f"this is at {found.address} now")
        except RLMError as error:  # its subject is gone
            return LiveState(trouble=str(error).rstrip("."))
        except Exception:  # show it, and recover without a reload
            log.exception("The page %s cannot be made", page.path, extra={"action": "render"})
            return LiveState(trouble=FAULT)

    def _page(self, page: Page, question: Query, viewer: Viewer) -> tuple[Rendered, int]:
        """Return a page with its status; a page with the reason if it cannot be shown."""
        try:
            return self._render(page, question, viewer), 200
        except StoreError as error:
            trouble, why, status = self._documents.away(error), str(error), _UNAVAILABLE
            silent = is_silent(error)
        except RLMError as error:
            trouble = why = str(error).rstrip(".")
            status, silent = _NOT_FOUND, False
        frame = Frame(PAGES, page, SERVER, system_clock.now(), viewer, trouble)
        context = {"is_away": status == _UNAVAILABLE, "is_silent": silent, "why": why.rstrip(".")}
        return render(frame, "trouble.html", context), status

    def _render(self, page: Page, question: Query, viewer: Viewer) -> Rendered:
        frame = Frame(PAGES, page, SERVER, system_clock.now(), viewer)
        return render(frame, page.template, page.context(self._documents, question))
