"""The routes of the JSON side, by which `OPERATIONS` are carried out in threads, and its OpenAPI description."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import msgspec
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from rlm.core.errors import StoreError
from rlm.ledger import Store
from rlm.ledger.trouble import revive
from rlm.web.errors import document
from rlm.web.operations import OPERATIONS, ApiCall, Operation, Pending
from rlm.web.parameters import of_body, of_query, read_body
from rlm.web.session import visit_of

_JSON = "application/json"
_ACCEPTED = 202
#: What /openapi.json answers; `python -m tests.openapi_page` makes it of `OPERATIONS` and docs/json.md.
_DESCRIPTION: Final = Path(__file__).with_name("openapi.json")


def api_routes(store: Store) -> list[Route]:
    """Return the routes of all operations, and of their description."""

    def openapi(_request: Request) -> Response:
        return document(msgspec.Raw(_DESCRIPTION.read_bytes()))

    of_path: dict[str, dict[str, Operation]] = {}
    for one in OPERATIONS:
        of_path.setdefault(one.path, {})[one.method] = one
    each = [Route(path, _endpoint(store, methods), methods=list(methods)) for path, methods in of_path.items()]
    return [*each, Route("/openapi.json", openapi)]


def _endpoint(store: Store, operations: Mapping[str, Operation]) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        operation = operations["GET" if request.method == "HEAD" else request.method]
        if operation.method == "GET":
            asked = of_query(request.query_params.multi_items(), operation.takes)
        else:
            asked = of_body(await _json_body(request), operation.takes)
        about = next(iter(request.path_params.values()), "")
        found = await run_in_threadpool(_carry_out, operation, ApiCall(store, visit_of(request), about, asked))
        return document(found.document, _ACCEPTED) if isinstance(found, Pending) else document(found)

    return answer


def _carry_out(operation: Operation, call: ApiCall) -> Any:
    try:
        return operation.handle(call)
    except StoreError:
        revive(call.store)
        raise


async def _json_body(request: Request) -> bytes:
    """Return the body; a form of a foreign page could not say that it is JSON."""
    body = await read_body(request)
    if body and request.headers.get("Content-Type", "").partition(";")[0].strip().lower() != _JSON:
        raise HTTPException(415, f"The body must be JSON, with `Content-Type: {_JSON}`")
    return body
