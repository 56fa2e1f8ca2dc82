"""The configuration page agrees with the code.

`uv run python -m tests.unit.test_settings_reference` regenerates its tables.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from rlm.settings.layers import built_in_types
from rlm.settings.model import SECTIONS, BudgetSettings, EndpointSettings, SuccessSettings, TypeSettings
from rlm.settings.section import settings_of
from rlm.settings.template import written
from rlm.settings.toml import toml_value

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
#: A table of settings, or of built-in types, in the page.
TABLE = re.compile(r"^\| (?:key|type) \|.*\n(?:\|.*\n)*", re.MULTILINE)


def with_tables(page):
    """Return the Markdown `page` with its tables of settings regenerated, in their order on the page."""
    sections = [*SECTIONS.values(), TypeSettings, EndpointSettings, SuccessSettings, BudgetSettings]
    tables = [*(_table(_settings(section)) for section in sections), _table(_built_in_types())]
    assert len(TABLE.findall(page)) == len(tables)
    remaining = iter(tables)
    return TABLE.sub(lambda _: next(remaining), page)


def _settings(section):
    yield "key", "default", "allowed", "meaning"
    for key, setting in settings_of(section).items():
        default = "required" if setting.is_required else f"`{written(setting.default)}`"
        yield f"`{key}`", setting.unset or default, setting.allowed, setting.meaning


def _built_in_types():
    yield "type", "priority", "processing_seconds", "rate_limit", "endpoints"
    for name, table in built_in_types().items():
        endpoints = ", ".join(f"`{endpoint['name']}`" for endpoint in table["endpoints"])
        yield f"`{name}`", str(table["priority"]), str(table["processing_seconds"]), table["rate_limit"], endpoints


def _table(rows):
    head, *body = rows
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ("---",) * len(head), *body])


def test_page_is_up_to_date():
    """docs/configuration.md has the tables that `with_tables` writes, under the headings of the sections."""
    page = PAGE.read_text(encoding="utf-8")

    assert with_tables(page) == page
    headings = re.findall(r"^## `\[(\w+)(?:\.NAME)?\]`$", page, re.MULTILINE)
    assert headings == [*SECTIONS, "types", "budgets"]


def test_toml_values_read_back():
    """What is written as TOML is read as the same value."""
    values = ["", 'a"b\\c\n\t\x7f\x00ü', True, 0, -5, 0.1, 1e-9, 1e300, float("inf"), [1, [2]], {"a b": {"c": []}}, {}]

    assert tomllib.loads(f"x = {toml_value(values)}")["x"] == values


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
