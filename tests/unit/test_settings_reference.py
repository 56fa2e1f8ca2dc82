"""The configuration page says what the code does."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from rlm.settings.reference import with_tables
from rlm.settings.toml import toml_value
from rlm.settings.values import RESERVED_HEADERS

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_page_is_up_to_date():
    """docs/configuration.md has the tables that `with_tables` writes; write them there when settings change."""
    page = PAGE.read_text(encoding="utf-8")

    assert with_tables(page) == page
    assert f"{', '.join(f'`{name}`' for name in RESERVED_HEADERS)}." in page


def test_a_page_with_a_table_too_few_is_refused():
    """Else the tables would get under the wrong headings."""
    with pytest.raises(ValueError, match="the page has 1 tables of settings, not 11"):
        with_tables("| key | default |\n|---|---|\n")


def test_tables_are_whole():
    """Every row of a table has as many cells as its head."""
    page = with_tables(PAGE.read_text(encoding="utf-8"))
    tables = [block.split("\n") for block in page.split("\n\n") if block.startswith("| ")]

    assert len(tables) == 12
    for table in tables:
        assert {row.count("|") for row in filter(None, table)} == {table[0].count("|")}


def test_toml_values_read_back():
    """What is written as TOML is read as the same value."""
    values = ["", 'a"b\\c\n\t\x7f\x00ü', True, 0, -5, 0.1, 1e-9, 1e300, float("inf"), [1, [2]], {"a b": {"c": []}}, {}]

    assert tomllib.loads(f"x = {toml_value(values)}")["x"] == values
