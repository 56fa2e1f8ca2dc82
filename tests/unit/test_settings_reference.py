"""The configuration page says what the code does."""

from __future__ import annotations

import tomllib
from pathlib import Path

from rlm.settings.reference import configuration_reference
from rlm.settings.toml import toml_value

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def test_page_is_up_to_date():
    """docs/configuration.md is what `configuration_reference` returns; write it there when settings change."""
    assert PAGE.read_text(encoding="utf-8") == configuration_reference()


def test_tables_are_whole():
    """Every row of a table has as many cells as its head."""
    tables = [block.split("\n") for block in configuration_reference().split("\n\n") if block.startswith("| ")]

    assert len(tables) == 12
    for table in tables:
        assert {row.count("|") for row in filter(None, table)} == {table[0].count("|")}


def test_toml_values_read_back():
    """What is written as TOML is read as the same value."""
    values = ["", 'a"b\\c\n\t\x7f\x00ü', True, 0, -5, 0.1, 1e-9, 1e300, float("inf"), [1, [2]], {"a b": {"c": []}}, {}]

    assert tomllib.loads(f"x = {toml_value(values)}")["x"] == values
