"""/openapi.json describes what is served, and nothing else."""

from __future__ import annotations

import json
import re

from rlm.web.app import api_routes, make_app
from rlm.web.operations import OPERATIONS
from tests import documents_page, openapi_page
from tests.acceptance.jsonpage import documented

DESCRIBED = json.loads(openapi_page.FILE.read_text(encoding="utf-8"))


def served():
    """Return the methods and paths of the routes."""
    return {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in [*api_routes(store=None), *make_app(None, "", (), metrics_only=True).routes]
        for method in route.methods - {"HEAD"}
    }


def described():
    """Return the methods and paths that are described."""
    return {(method.upper(), path) for path, item in DESCRIBED["paths"].items() for method in item}


def test_each_route_is_described_and_each_description_is_served():
    """But for the description itself."""
    assert described() == served() - {("GET", "/openapi.json")}
    assert len(described()) == len(OPERATIONS) + len(openapi_page.MACHINES)


def test_each_parameter_of_a_path_is_described():
    """And no other."""
    for path, item in DESCRIBED["paths"].items():
        for one in item.values():
            named = [parameter["name"] for parameter in one["parameters"] if parameter["in"] == "path"]
            assert named == re.findall(r"{(\w+)}", path)


def test_every_reference_leads_somewhere():
    """And every operation has a name of its own, a summary, and what it may be answered."""
    found = DESCRIBED
    schemas = set(found["components"]["schemas"])
    referred = set(re.findall(r"#/components/schemas/(\w+)", repr(found)))
    each = [one for item in found["paths"].values() for one in item.values()]

    assert referred <= schemas
    assert len({one["operationId"] for one in each}) == len(each)
    assert all(one["summary"] and "200" in one["responses"] for one in each)


def test_what_orders_needs_the_token_or_a_session_with_its_csrf_token():
    """And says so."""
    for item in DESCRIBED["paths"].values():
        for method, one in item.items():
            assert ({} in one["security"]) is (method == "get")
            assert method == "get" or {"session": [], "csrf": []} in one["security"]


def test_the_description_is_made_of_the_operations_and_the_json_page():
    """`uv run python -m tests.openapi_page` makes it anew."""
    assert openapi_page.FILE.read_text(encoding="utf-8") == openapi_page.text()
    assert {one.command for one in OPERATIONS} == set(documents_page.COMMANDS)
    assert all(documented(one) for sections in documents_page.COMMANDS.values() for one in sections)
