"""The files that `rlm init` writes, and the reference: both from the sections of the configuration."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from rlm.settings.layers import built_in_types
from rlm.settings.model import SECTIONS, BudgetSettings, Section, settings_of
from rlm.settings.toml import toml_key, toml_value

_PREFACE = """\
The configuration of RLM. What is commented out is the default and may be left out. `rlm config check` checks whether
this file can be used; `rlm config show` shows the values in force and where each comes from. Any single value can also
be set by an environment variable, which overrides this file: RLM_RUN__TARGET=0.5 sets `target` of [run].
"""
_TYPES = """\
The types of events, one table each. An item names them in its `events`. The tables below replace the built-in types
(and are the same): keep those you need, add your own, name your APIs. The first endpoint is the primary, the others
take what overflows. Each may have a rate_limit, a timeout_seconds, headers, success and a budget of its own; a type may
have a share of the calls and say what success is: docs/configuration.md explains each.
"""
PROCFILE = """\
# What `rlm up` runs; each process can also run by itself, on several hosts.
scheduler: exec rlm scheduler
supervisor: exec rlm supervisor
# The dashboard, http://127.0.0.1:8088; if another program has that port, it waits until it is free and says so.
web: exec rlm web
"""


class Row(NamedTuple):
    """A setting as the reference and the file of `rlm init` describe it."""

    key: str
    default: str
    allowed: str
    meaning: str


def reference(section: type[Section]) -> list[Row]:
    """Return a row for each setting of a section."""
    return [
        Row(key, _default(setting.default), setting.allowed, setting.meaning)
        for key, setting in settings_of(section).items()
    ]


def _default(value: Any) -> str:
    """Return a default as TOML, a whole number of seconds without its fraction."""
    if value is msgspec.NODEFAULT:
        return "required"
    value = int(value) if isinstance(value, float) and value.is_integer() else value
    return "none" if value in (None, {}) else toml_value(value)


def first_files() -> dict[str, str]:
    """Return the content of each file."""
    return {"rlm.toml": _configuration(), "Procfile": PROCFILE}


def _configuration() -> str:
    lines = [*_comment(_PREFACE)]
    for name, section in SECTIONS.items():
        lines += ["", "", *_comment(section.__doc__ or ""), f"[{name}]"]
        for row in reference(section):
            lines += ["", *_comment(row.meaning), *_comment(f"Allowed: {row.allowed}."), f"# {row.key} = {row.default}"]
    lines += ["", "", *_comment(_TYPES)]
    for name, table in built_in_types().items():
        lines += ["", f"[types.{toml_key(name)}]"]
        lines += [f"{key} = {toml_value(value)}" for key, value in table.items() if key != "endpoints"]
        lines += ["endpoints = [", *(f"  {toml_value(endpoint)}," for endpoint in table["endpoints"]), "]"]
    lines += ["", "", *_comment(f'{BudgetSettings.__doc__} An endpoint names it: budget = "account".'), "#"]
    lines += ["# [budgets.account]", '# rate_limit = "50/minute"']
    return "\n".join(lines) + "\n"


def _comment(text: str) -> Iterator[str]:
    text = re.sub(r"\[(.+?)\]\(#[\w-]+\)", r"\1", text)  # links lead nowhere in a file
    return (f"# {line}" for line in textwrap.wrap(text, 100, break_on_hyphens=False))
