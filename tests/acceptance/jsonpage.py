"""Reads docs/json.md for tests, and lists the keys of a document in the notation of that page."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "json.md"

#: Under these keys are names, not keys: the placeholders of the page for them.
NAMES = {
    "by_type": "TYPE",
    "kept": "TYPE",
    "by_endpoint": "ENDPOINT",
    "by_budget": "BUDGET",
    "arrivals_per_window": "TYPE",
    "left_over_by_priority": "PRIORITY",
    "settings": "KEY",
    "labels": "NAME",
    "api": "ENDPOINT",
    "failing": "ENDPOINT",
    "budgets": "BUDGET",
}
#: These are compared as a whole: the plan once more, pushed items, the record of a demo.
WHOLE = {"today", "item", "record"}


def sections():
    """Return the commands that have a section."""
    return set(re.findall(r"^## `rlm (.+)`$", PAGE.read_text(encoding="utf-8"), re.MULTILINE))


def documented(command):
    """Return the keys in the tables of a command's section."""
    return keys_under(f"`{command}`")


def keys_under(heading):
    """Return the keys in the tables of a section."""
    section = PAGE.read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`.+?) \|", section, re.MULTILINE)
    return {key for cell in cells for key in re.findall(r"`([^`]+)`", cell)}


def keys(document, place="", name=""):
    """Yield the keys of a document in the page's notation, down to values without keys."""
    if name in WHOLE or not isinstance(document, (dict, list)) or not document:
        yield place
    elif isinstance(document, list):
        for entry in document:
            yield from keys(entry, f"{place}[]")
    else:
        for key, value in document.items():
            yield from keys(value, f"{place}.{NAMES.get(name, key)}".lstrip("."), key)


def without_empty(found):
    """Omit the places where a list or table is empty, if another one of them is not."""
    return {one for one in found if not any(other.startswith((f"{one}.", f"{one}[")) for other in found)}
