"""/openapi.json describes what is served, and nothing else."""

from __future__ import annotations

import re

from rlm.web.app import api_routes, machine_routes
from rlm.web.openapi import openapi

DESCRIBED = openapi()


def served():
    """Return the methods and paths of the routes."""
    return {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in [*api_routes(store=None), *machine_routes(store=None)]
        for method in route.methods - {"HEAD"}
    }


def described():
    """Return the methods and paths that are described."""
    return {(method.upper(), path) for path, item in DESCRIBED["paths"].items() for method in item}


def test_each_route_is_described_and_each_description_is_served():
    """But for the description itself."""
    assert described() == served() - {("GET", "/openapi.json")}


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
