"""`rlm config`: what the configuration is and where each value comes from; whether it can be used."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.common import CommandError, ExitCode, Group, config_option, examples, json_option
from rlm.cli.completing import setting_keys
from rlm.cli.printing import fitting_table, print_json, room, show, show_words, styled, width_of
from rlm.core.errors import ConfigurationError
from rlm.core.text import counted, safe_line

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rlm.settings import Settings, Shown


#: A key, as its table and the rest: `types.X` and `endpoints[0].url`.
_TABLE = re.compile(r"(?:((?:types|budgets)\.(?:\"[^\"]*\"|[^.\"]+)|[a-z]+)\.)?(.*)", re.DOTALL)


@click.group(cls=Group)
def config() -> None:
    """See the configuration and where each value comes from; check it."""


@config.command(
    "show",
    epilog=examples(
        "rlm config show",
        "rlm config show run workers.max       # a section, a key",
        "rlm config show --json | jq '.settings[\"redis.url\"]'",
    ),
)
@click.argument("keys", metavar="[KEY]...", nargs=-1, shell_complete=setting_keys)
@config_option
@json_option
def show_settings(config: Path | None, keys: tuple[str, ...], as_json: bool) -> None:
    """Show every setting, its value, and where that comes from.

    That is "default", the file, or the name of an environment variable. KEY shows only that one, or all of a section or
    a type. Passwords, tokens, the values of headers and keys in URLs are masked.
    """
    from rlm.settings import load_settings  # noqa: PLC0415  # a command loads what it needs when it runs

    settings = load_settings(config)
    found = _chosen(settings.shown, keys)
    if as_json:
        values = {one.key: {"value": one.value, "from": one.where} for one in found}
        print_json({"file": _file(settings), "revision": settings.revision, "settings": values})
        return
    where = f"The file is {settings.source}." if settings.source else "There is no file; `rlm init` writes one."
    show_words(f"{where} Revision {settings.revision}.")
    _describe(found, settings)


def _describe(found: Sequence[Shown], settings: Settings) -> None:
    """Print settings by their tables, as the file has them."""
    tables: dict[str, list[list[str]]] = {}
    for one in found:
        name, key = _TABLE.fullmatch(one.key).groups()  # type: ignore[union-attr]  # it matches any text
        tables.setdefault(name or "", []).append([f"  {key}", *_row(one, settings)])
    width = max(len(row[0]) for rows in tables.values() for row in rows)
    for name, rows in tables.items():
        show()
        title = styled(f"[{name}]" if name else "other", "title").ljust(width)
        fitted = _fitted(rows, max(width, width_of(title)))
        fitting_table([title, *[""] * (len(fitted[0]) - 1)], fitted, lambda _index: False, whole=True)


def _fitted(rows: list[list[str]], width: int) -> list[list[str]]:
    """Put value and origin into one cell on a terminal too narrow for both: of a long one the origin is below it."""
    values, origins = (max(width_of(row[index]) for row in rows) for index in (1, 2))
    over = width + values + origins + 4 - room()  # two spaces between columns
    if over <= 0:
        return rows
    return [[name, f"{value:<{max(0, values - over)}}  {origin}"] for name, value, origin in rows]


def _chosen(shown: Sequence[Shown], keys: Sequence[str]) -> list[Shown]:
    """Pick the settings that `keys` name, all where there is none."""
    from rlm.settings.faults import close_match, did_you_mean  # noqa: PLC0415  # see show_settings

    for key in keys:
        if not any(_is_of(one.key, key) for one in shown):
            near = did_you_mean(close_match(key, [one.key for one in shown]))
            raise CommandError(f"There is no setting {key!r}{near}. `rlm config show` shows all.", ExitCode.USAGE)
    return [one for one in shown if not keys or any(_is_of(one.key, key) for key in keys)]


def _is_of(key: str, chosen: str) -> bool:
    return key == chosen or key.startswith((f"{chosen}.", f"{chosen}["))


def _row(one: Shown, settings: Settings) -> list[str]:
    from rlm.settings.toml import toml_value  # noqa: PLC0415  # see show_settings

    where = one.where.removeprefix("environment ")
    if settings.source is not None and where == f"file {settings.source}":
        where = settings.source.name
    value = "-" if one.value is None else safe_line(toml_value(one.value))
    return [value, styled(safe_line(where), "dim" if where == "default" else "busy")]


@config.command(
    epilog=examples("rlm config check", "rlm config check --config /etc/rlm/rlm.toml && systemctl restart rlm")
)
@config_option
@json_option
def check(config: Path | None, as_json: bool) -> None:
    """Say whether the configuration can be used, or everything that is wrong with it. Starts and asks nothing.

    Exits with 2 if anything is wrong.
    """
    from rlm.settings import load_settings  # noqa: PLC0415  # a command loads what it needs when it runs

    try:
        settings = load_settings(config)
    except ConfigurationError as error:
        if not as_json:
            raise
        print_json({"ok": False, "file": None, "faults": str(error).splitlines()})
        raise SystemExit(int(ExitCode.USAGE)) from error
    if as_json:
        print_json({"ok": True, "file": _file(settings), "faults": []})
        return
    facts: list[Any] = [
        counted(len(settings.types), "type"),
        counted(len(settings.endpoints), "endpoint"),
        counted(len(settings.budgets), "budget"),
    ]
    what = f"The configuration {settings.source}" if settings.source else "The built-in configuration"
    show_words(f"{styled('ok', 'ok')}  {what} can be used: {', '.join(facts)}. Revision {settings.revision}.")
    if settings.source is None:
        show_words("There is no rlm.toml here; `rlm init` writes one to begin with.")


def _file(settings: Settings) -> str | None:
    return str(settings.source) if settings.source else None
