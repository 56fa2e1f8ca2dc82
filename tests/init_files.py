"""Make the files of `rlm init` anew from the descriptions of the settings: `uv run python -m tests.init_files`.

A test compares them, in rlm/settings/init, with this.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rlm.settings.document import SECTIONS, built_in_types
from rlm.settings.model import BudgetSettings, EndpointSettings, TypeSettings
from rlm.settings.secrets import is_secret
from rlm.settings.sources import FILE_NAME, variable_name
from rlm.settings.toml import toml_key, toml_value

if TYPE_CHECKING:
    from rlm.settings.kinds import Section, Setting

#: The directory of the files that `rlm init` writes.
FOLDER = Path(__file__).parents[1] / "rlm" / "settings" / "init"
_WIDTH = 100
_LINK = re.compile(r"\[(.+?)\]\(#[\w-]+\)")

_PREFACE = """\
The configuration of RLM. What is commented out is the default and may be left out.

`rlm config check` checks whether this file can be used; `rlm config show` shows the values in force and where each
comes from. Any single value can also be set by an environment variable, which overrides this file:
RLM_RUN__TARGET=0.5 sets `target` of [run].
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
_ENVIRONMENT = """\
Variables for RLM: copy this file to .env, which nobody else should be able to read (`cp` keeps it so), and keep .env
out of version control. `rlm up` reads .env by itself. For the other commands, load it into the shell:

set -a; . ./.env; set +a
"""


def configuration_template() -> str:
    """Return the file `rlm.toml`: every setting with its meaning, what is allowed, and its default."""
    lines = [*_comment(_PREFACE)]
    for name, section in SECTIONS.items():
        lines += ["", "", *_comment(section.__doc__ or ""), f"[{name}]", *_defaults(section)]
    lines += ["", "", *_comment(_TYPES), "#", *_legend(TypeSettings), "#"]
    lines += [*_comment("Each of its endpoints, { ... }, may have:"), *_legend(EndpointSettings)]
    for name, table in built_in_types().items():
        lines += ["", f"[types.{toml_key(name)}]", *_type(table)]
    lines += ["", "", *_comment(f'{BudgetSettings.__doc__} An endpoint names it: budget = "account".'), "#"]
    lines += [*_legend(BudgetSettings), "#", "# [budgets.account]", '# rate_limit = "50/minute"']
    return "\n".join(lines) + "\n"


def environment_template() -> str:
    """Return the file `.env.example`: every variable, commented out."""
    a_type = next(iter(built_in_types()))
    told = [
        ("The configuration file, if it is not rlm.toml in this directory.", f"RLM_CONFIG=/etc/rlm/{FILE_NAME}"),
        (
            "Where the embedded server and RLM keep their files, if not in .rlm beside the configuration file.",
            "RLM_DATA_DIR=/var/lib/rlm",
        ),
        ("Your own Redis in place of the embedded server.", "REDIS_URL=redis://:PASSWORD@127.0.0.1:6379/0"),
        ("Where errors are reported.", "SENTRY_DSN=https://KEY@sentry.example.com/1"),
        *_secrets(),
        (
            'The value that an endpoint with headers = { Authorization = "env:API_AUTHORIZATION" } sends.',
            'API_AUTHORIZATION="Bearer TOKEN"',
        ),
        ("Any single value of the configuration: the `target` of [run].", f"{variable_name(('run', 'target'))}=0.75"),
        ("The limit of a type.", f"{variable_name(('types', a_type, 'rate_limit'))}=30/minute"),
    ]
    lines = list(_comment(_ENVIRONMENT))
    for meaning, assignment in told:
        lines += ["", *_comment(meaning), f"# {assignment}"]
    return "\n".join(lines) + "\n"


def _secrets() -> Iterator[tuple[str, str]]:
    """Yield the settings that belong in the environment rather than in a file."""
    for name, section in SECTIONS.items():
        for key, described in section.settings().items():
            if is_secret(key):
                yield _plain(described), f"{variable_name((name, key))}="


def _defaults(section: type[Section]) -> Iterator[str]:
    """Yield each key of a section: a comment that describes it, then its default."""
    for key, described in section.settings().items():
        yield ""
        yield from _comment(_plain(described))
        yield from _comment(f"Allowed: {described.allowed}.")
        yield f"# {key} = {written(described.default)}"


def _legend(table: type[Section]) -> Iterator[str]:
    """Yield a description of each key of a repeated table."""
    for key, described in table.settings().items():
        default = described.unset or ("none" if described.is_required else written(described.default))
        text = f"{key}: {_plain(described)} Allowed: {described.allowed}. Default: {default}."
        yield from (
            f"#   {line}" for line in textwrap.wrap(text, _WIDTH, subsequent_indent="  ", break_on_hyphens=False)
        )


def _type(table: Mapping[str, Any]) -> Iterator[str]:
    for key, value in table.items():
        if key != "endpoints":
            yield f"{key} = {toml_value(value)}"
    yield "endpoints = ["
    for endpoint in table["endpoints"]:
        yield f"  {toml_value(endpoint)},"
    yield "]"


def written(value: Any) -> str:
    """Return a default as TOML, a whole number of seconds without its fraction."""
    whole = isinstance(value, float) and value.is_integer()
    return toml_value(int(value) if whole else value)


def _plain(described: Setting) -> str:
    return _LINK.sub(r"\1", described.meaning)


def _comment(text: str) -> Iterator[str]:
    """Yield a text as lines of comment, paragraph by paragraph."""
    for number, paragraph in enumerate(text.strip().split("\n\n")):
        if number:
            yield "#"
        yield from (f"# {line}" for line in textwrap.wrap(" ".join(paragraph.split()), _WIDTH, break_on_hyphens=False))


def texts() -> dict[str, str]:
    """Return the expected content of each file."""
    return {"rlm.toml": configuration_template(), "Procfile": PROCFILE, ".env.example": environment_template()}


if __name__ == "__main__":
    for file_name, content in texts().items():
        (FOLDER / file_name).write_text(content, encoding="utf-8")
