"""The files that `rlm init` writes: a configuration with every setting, a Procfile, an example of .env."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any

from rlm.settings.layers import built_in_types
from rlm.settings.model import SECTIONS, BudgetSettings, EndpointSettings, SuccessSettings, TypeSettings
from rlm.settings.section import Section, Setting, settings_of
from rlm.settings.toml import toml_key, toml_value

_WIDTH = 100
_LINK = re.compile(r"\[(.+?)\]\(#[\w-]+\)")

_PREFACE = """\
The configuration of RLM. What is commented out is the default and may be left out. `rlm config check` checks whether
this file can be used; `rlm config show` shows the values in force and where each comes from. Any single value can also
be set by an environment variable, which overrides this file: RLM_RUN__TARGET=0.5 sets `target` of [run].
"""
_TYPES = """\
The types of events, one table each. An item names them in its `events`. The tables below replace the built-in types
(and are the same): keep those you need, add your own, name your APIs.
"""
PROCFILE = """\
# What `rlm up` runs; each process can also run by itself, on several hosts.
scheduler: exec rlm scheduler
supervisor: exec rlm supervisor
# The dashboard, http://127.0.0.1:8088; if another program has that port, it waits until it is free and says so.
web: exec rlm web --wait
"""
ENVIRONMENT = """\
# Variables for RLM: copy this file to .env, which nobody else should be able to read (`cp` keeps it so), and keep .env
# out of version control. `rlm up` reads .env by itself. For the other commands, load it into the shell:
#
# set -a; . ./.env; set +a

# The configuration file, if it is not rlm.toml in this directory.
# RLM_CONFIG=/etc/rlm/rlm.toml

# Where the embedded server and RLM keep their files, if not in .rlm beside the configuration file.
# RLM_DATA_DIR=/var/lib/rlm

# Your own Redis in place of the embedded server.
# REDIS_URL=redis://:PASSWORD@127.0.0.1:6379/0

# Where errors are reported.
# SENTRY_DSN=https://KEY@sentry.example.com/1

# The token of the dashboard.
# RLM_WEB__TOKEN=

# The value that an endpoint with headers = { Authorization = "env:API_AUTHORIZATION" } sends.
# API_AUTHORIZATION="Bearer TOKEN"

# Any single value of the configuration: the `target` of [run], the limit of a type.
# RLM_RUN__TARGET=0.75
# RLM_TYPES__REBALANCE_NEEDED__RATE_LIMIT=30/minute
"""


def first_files() -> dict[str, str]:
    """Return the content of each file."""
    return {"rlm.toml": _configuration(), "Procfile": PROCFILE, ".env.example": ENVIRONMENT}


def written(value: Any) -> str:
    """Return a default as TOML, a whole number of seconds without its fraction."""
    return toml_value(int(value) if isinstance(value, float) and value.is_integer() else value)


def _configuration() -> str:
    lines = [*_comment(_PREFACE)]
    for name, section in SECTIONS.items():
        lines += ["", "", *_comment(section.__doc__ or ""), f"[{name}]"]
        for key, setting in settings_of(section).items():
            lines += ["", *_comment(_plain(setting)), *_comment(f"Allowed: {setting.allowed}.")]
            lines += [f"# {key} = {written(setting.default)}"]
    lines += ["", "", *_comment(_TYPES), "#", *_legend(TypeSettings), "#"]
    lines += [*_comment("Each of its endpoints, { ... }, may have:"), *_legend(EndpointSettings), "#"]
    lines += [*_comment("`success`, { ... }, of a type or an endpoint may have:"), *_legend(SuccessSettings)]
    for name, table in built_in_types().items():
        lines += ["", f"[types.{toml_key(name)}]", *_type(table)]
    lines += ["", "", *_comment(f'{BudgetSettings.__doc__} An endpoint names it: budget = "account".'), "#"]
    lines += [*_legend(BudgetSettings), "#", "# [budgets.account]", '# rate_limit = "50/minute"']
    return "\n".join(lines) + "\n"


def _legend(section: type[Section]) -> Iterator[str]:
    """Yield a description of each key of a repeated table."""
    for key, setting in settings_of(section).items():
        default = setting.unset or ("none" if setting.is_required else written(setting.default))
        text = f"{key}: {_plain(setting)} Allowed: {setting.allowed}. Default: {default}."
        yield from (f"#   {line}" for line in _wrapped(text, subsequent_indent="  "))


def _type(table: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{key} = {toml_value(value)}" for key, value in table.items() if key != "endpoints")
    yield from ("endpoints = [", *(f"  {toml_value(endpoint)}," for endpoint in table["endpoints"]), "]")


def _plain(setting: Setting) -> str:
    return _LINK.sub(r"\1", setting.meaning)


def _comment(text: str) -> Iterator[str]:
    yield from (f"# {line}" for line in _wrapped(text))


def _wrapped(text: str, **options: str) -> list[str]:
    return textwrap.wrap(" ".join(text.split()), _WIDTH, break_on_hyphens=False, **options)  # type: ignore[arg-type]
