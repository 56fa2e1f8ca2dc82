"""The configuration page agrees with the code.

`uv run python -m tests.unit.test_settings_reference` regenerates its tables.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

from rlm.settings.document import SECTIONS, built_in_types
from rlm.settings.model import BudgetSettings, EndpointSettings, TypeSettings
from rlm.settings.toml import toml_value
from rlm.settings.values import RESERVED_HEADERS
from tests.init_files import written

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
#: A table of settings, or of built-in types, in the page.
TABLE = re.compile(r"^\| (?:key|type) \|.*\n(?:\|.*\n)*", re.MULTILINE)


def with_tables(page):
    """Return the Markdown `page` with its tables of settings regenerated, in their order on the page.

    Raises:
        ValueError: the page has more or fewer such tables than there are.
    """
    models = [*SECTIONS.values(), TypeSettings, EndpointSettings, BudgetSettings]
    tables = [*(_table(_settings(model)) for model in models), _table(_built_in_types())]
    if (found := len(TABLE.findall(page))) != len(tables):
        raise ValueError(f"the page has {found} tables of settings, not {len(tables)}")
    remaining = iter(tables)
    return TABLE.sub(lambda _: next(remaining), page)


def _settings(model):
    yield "key", "default", "allowed", "meaning"
    for key, described in model.settings().items():
        default = "required" if described.is_required else f"`{written(described.default)}`"
        yield f"`{key}`", described.unset or default, described.allowed, described.meaning


def _built_in_types():
    yield "type", "priority", "processing_seconds", "rate_limit", "endpoints"
    for name, table in built_in_types().items():
        endpoints = ", ".join(f"`{endpoint['name']}`" for endpoint in table["endpoints"])
        yield f"`{name}`", str(table["priority"]), str(table["processing_seconds"]), table["rate_limit"], endpoints


def _table(rows):
    head, *body = rows
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ("---",) * len(head), *body])


def test_page_is_up_to_date():
    """docs/configuration.md has the tables that `with_tables` writes."""
    page = PAGE.read_text(encoding="utf-8")

    assert with_tables(page) == page
    assert f"{', '.join(f'`{name}`' for name in RESERVED_HEADERS)}." in page


def test_toml_values_read_back():
    """What is written as TOML is read as the same value."""
    values = ["", 'a"b\\c\n\t\x7f\x00ü', True, 0, -5, 0.1, 1e-9, 1e300, float("inf"), [1, [2]], {"a b": {"c": []}}, {}]

    assert tomllib.loads(f"x = {toml_value(values)}")["x"] == values


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
