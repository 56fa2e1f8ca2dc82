"""The configuration page and the file of `rlm init` agree with the code.

`uv run python -m tests.unit.test_settings_reference` writes keys, defaults and what is allowed into the page's tables;
their last column is written by hand.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import msgspec

from rlm.settings.layers import FIRST, built_in_types, written
from rlm.settings.model import BudgetSettings, Document, EndpointSettings, TypeSettings, settings_of

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
#: A table of settings, or of built-in types, in the page.
TABLE = re.compile(r"^\| (?:key|type) \|.*\n(?:\|.*\n)*", re.MULTILINE)
SECTIONS = {
    name: setting.section for name, setting in settings_of(Document).items() if name not in {"types", "budgets"}
}


def with_tables(page):
    """Return the Markdown `page` with its tables of settings regenerated, in their order on the page."""
    sections = (*SECTIONS.values(), TypeSettings, EndpointSettings, BudgetSettings)
    makers = iter([*((settings, section) for section in sections), (types, None)])
    return TABLE.sub(lambda match: table(*next(makers), match[0]), page)


def table(rows, section, old):
    lines = [line.strip("| ").split(" | ") for line in old.splitlines()]
    meanings = {cells[0]: cells[-1] for cells in lines}
    head, *body = rows(section, meanings)
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ("---",) * len(head), *body])


def settings(section, meanings):
    yield "key", "default", "allowed", "meaning"
    for key, setting in settings_of(section).items():
        default = f"`{written(setting.default)}`".replace(".0`", "`")
        if setting.default is msgspec.NODEFAULT or setting.default in (None, {}):
            default = "required" if setting.default is msgspec.NODEFAULT else "none"
        yield f"`{key}`", default, setting.allowed, meanings.get(f"`{key}`", "TO BE WRITTEN")


def types(_section, _meanings):
    yield "type", "priority", "processing_seconds", "rate_limit", "endpoints"
    for name, kind in built_in_types().items():
        endpoints = ", ".join(f"`{endpoint['name']}`" for endpoint in kind["endpoints"])
        yield f"`{name}`", str(kind["priority"]), str(kind["processing_seconds"]), kind["rate_limit"], endpoints


def test_page_is_up_to_date():
    page = PAGE.read_text(encoding="utf-8")

    assert with_tables(page) == page
    headings = re.findall(r"^## `\[(\w+)(?:\.NAME)?\]`$", page, re.MULTILINE)
    assert headings == [*SECTIONS, "types", "budgets"]


def test_the_first_file_shows_every_setting_with_its_default():
    text = (FIRST / "rlm.toml").read_text()
    shown = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", text.partition("\n[types.")[0], flags=re.MULTILINE))

    assert shown == {
        name: {key: each.default for key, each in settings_of(SECTIONS[name]).items()} for name in SECTIONS
    }
    assert re.findall(r"^# Allowed: (.*)\.$", text, re.MULTILINE) == [
        setting.allowed for section in SECTIONS.values() for setting in settings_of(section).values()
    ]


def test_there_are_at_most_40_settings():
    sections = (*SECTIONS.values(), TypeSettings, EndpointSettings, BudgetSettings)
    assert sum(len(settings_of(section)) for section in sections) <= 40


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
