"""/openapi.json describes what is served, and nothing else."""

from __future__ import annotations

import re

from rlm.web.api import api_routes, openapi
from rlm.web.app import machine_routes

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
