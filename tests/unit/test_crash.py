"""The crash points: the table and the code agree, and nothing happens without the variable."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from rlm.core.failpoints import POINTS

ROOT = Path(__file__).parents[2]


def calls():
    """Yield the name of each crash point in the code."""
    for package in ("rlm", "actors", "scheduler"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "crash_point":
                    yield node.args[0].value


def test_each_crash_point_of_the_table_is_in_the_code_once():
    assert Counter(calls()) == Counter(POINTS)
