"""The configuration page agrees with the code.

`uv run python -m tests.unit.test_settings_reference` regenerates its tables.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from rlm.settings.layers import built_in_types
from rlm.settings.model import SECTIONS, BudgetSettings, EndpointSettings, TypeSettings
from rlm.settings.template import Row, reference
from rlm.settings.toml import toml_value

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
#: A table of settings, or of built-in types, in the page.
TABLE = re.compile(r"^\| (?:key|type) \|.*\n(?:\|.*\n)*", re.MULTILINE)


def with_tables(page):
    """Return the Markdown `page` with its tables of settings regenerated, in their order on the page."""
    sections = (*SECTIONS.values(), TypeSettings, EndpointSettings, BudgetSettings)
    tables = [*(_settings(section) for section in sections), _built_in_types()]
    assert len(TABLE.findall(page)) == len(tables)
    remaining = iter(tables)
    return TABLE.sub(lambda _: _table(next(remaining)), page)


def _settings(section):
    yield Row._fields
    for row in reference(section):
        default = row.default if row.default in {"none", "required"} else f"`{row.default}`"
        yield row._replace(key=f"`{row.key}`", default=default)


def _built_in_types():
    yield "type", "priority", "processing_seconds", "rate_limit", "endpoints"
    for name, table in built_in_types().items():
        endpoints = ", ".join(f"`{endpoint['name']}`" for endpoint in table["endpoints"])
        yield f"`{name}`", str(table["priority"]), str(table["processing_seconds"]), table["rate_limit"], endpoints


def _table(rows):
    head, *body = rows
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ("---",) * len(head), *body])


def test_page_is_up_to_date():
    page = PAGE.read_text(encoding="utf-8")

    assert with_tables(page) == page
    headings = re.findall(r"^## `\[(\w+)(?:\.NAME)?\]`$", page, re.MULTILINE)
    assert headings == [*SECTIONS, "types", "budgets"]


def test_there_are_at_most_40_settings():
    sections = (*SECTIONS.values(), TypeSettings, EndpointSettings, BudgetSettings)
    assert sum(len(reference(section)) for section in sections) <= 40


def test_toml_values_read_back():
    values = ["", 'a"b\\c\n\t\x7f\x00ü', True, 0, -5, 0.1, 1e-9, 1e300, float("inf"), [1, [2]], {"a b": {"c": []}}, {}]

    assert tomllib.loads(f"x = {toml_value(values)}")["x"] == values


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
