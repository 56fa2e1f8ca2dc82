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

from rlm.admin.report import runs_beginning
from rlm.core.errors import RLMError, StoreError
from rlm.ledger.store import Store
from rlm.web.pages import endpoints, events, now, runs, whatif
from rlm.web.pages.live import Documents, is_silent
from rlm.web.pages.page import TEMPLATES, Page, Query, Viewer, event_address, render, run_address

#: Every page, in the order of the navigation.
PAGES: Final = (*(now.PAGE, endpoints.PAGE, *runs.PAGES, *events.PAGES, whatif.PAGE, endpoints.COMPLIANCE),)
#: What the page of trouble shows of an address at which there is nothing.
_MISSING: Final[dict[str, object]] = {"is_away": False, "is_silent": False, "event": ""}


def page_routes(store: Store) -> list[BaseRoute]:
    """Return the routes of all pages, of the search, and of `/static`."""
    documents = Documents(store)

    def search(request: Request) -> Response:
        """Lead to the page of the run whose id begins with the text, else to that of the event or item."""
        text = request.query_params.get("q", "").strip()[:1000]
        is_run = len(text) >= len("20261125") and runs_beginning(store, text)
        return RedirectResponse(run_address(text) if is_run else event_address(text), 303)

    static = StaticFiles(directory=TEMPLATES.with_name("static"))
    pages = [Route(page.path, _handler(documents, page)) for page in PAGES]
    return [*pages, Route("/search", search), Mount("/static", static, name="static")]


def missing_page(request: Request) -> Response:
    """Return the page for an unknown address."""
    page = Page("", "Not found", "trouble.html", lambda *_: {})
    why = "There is no page at this address"
    return HTMLResponse(render(page, PAGES, viewer_of(request), _MISSING | {"why": why}), 404)


def viewer_of(request: Request) -> Viewer:
    """Return the viewer of the page that answers `request`."""
    visit = request.state.visit
    return Viewer(visit.may_write, visit.csrf_token, bool(visit.session) and not visit.is_open)


def _handler(documents: Documents, page: Page) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        html, status = await run_in_threadpool(_page, documents, page, Query.of(request), viewer_of(request))
        return HTMLResponse(html, status)

    return answer


def _page(documents: Documents, page: Page, question: Query, viewer: Viewer) -> tuple[str, int]:
    """Return a page with its status; a page with the reason if it cannot be shown."""
    try:
        return render(page, PAGES, viewer, page.context(documents, question)), 200
    except StoreError as error:
        trouble, status = documents.away(error), 503
        values = {"is_away": True, "is_silent": is_silent(error), "event": "", "trouble": trouble}
    except RLMError as error:
        values, status = _MISSING | {"event": question.about if page is events.EVENT else ""}, 404
        trouble = str(error)
    why = {"why": trouble.rstrip(".")}
    return render(page._replace(template="trouble.html"), PAGES, viewer, values | why), status
