"""Setup: `rlm init` writes a first configuration, `rlm config` shows and checks it."""

from __future__ import annotations

import re
import shlex
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rlm.cli.common import CommandError, ExitCode, Group, command, confirm, settings_of
from rlm.cli.options import yes_option
from rlm.cli.printing import print_json, room, say, show, show_words, styled, table, wants_json, width_of
from rlm.core.errors import ConfigurationError
from rlm.core.files import replace_file
from rlm.core.text import counted, did_you_mean, safe_line

if TYPE_CHECKING:
    from rlm.settings import Settings, Shown

_NEXT = """\

Next, to see a run with these settings before you change them, all of it in this
directory:

  1. rlm mock-api        in a second terminal: the API that these settings call
  2. rlm up              in a third one: the server, a scheduler, a supervisor
  3. echo '{"id":"a-1","wallet_name":"w-1","events":["REBALANCE_NEEDED"]}' |
       rlm queue push    an item, as the audit system would push it
  4. rlm start --wait    sends what waits, and shows what became of it
  5. rlm result          shows that again; `rlm explain a-1` explains the event

Ctrl-C ends 1 and 2. Then name your own APIs in rlm.toml; `rlm config check`
checks whether it can be used, and `rlm doctor` whether all is well."""
#: A key, as its table and the rest: `types.X` and `endpoints[0].url`.
_TABLE = re.compile(r"(?:((?:types|budgets)\.(?:\"[^\"]*\"|[^.\"]+)|[a-z]+)\.)?(.*)", re.DOTALL)


@command(
    "rlm init                     # here",
    "rlm init /etc/rlm",
    "rlm init --dry-run           # print what would be written",
    "rlm init --force             # overwrite existing files, after asking",
)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=".", metavar="[DIRECTORY]")
@click.option("--force", is_flag=True, help="Overwrite existing files; asks first.")
@yes_option
@click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
def init(config: Path | None, directory: Path, *, force: bool, yes: bool, dry_run: bool) -> None:
    """Write a commented rlm.toml and a Procfile to begin with.

    They have every setting with its meaning and its default, so nothing has to be changed for a first run. An existing
    file is never overwritten without --force. Prints what to type next.
    """
    from rlm.settings.template import first_files

    files = first_files()
    there = [name for name in files if (directory / name).exists()]
    kept = [] if force else there
    written = {name: text for name, text in files.items() if name not in kept}
    if config is not None:
        settings_of(config)  # it is not used, but a faulty file is reported
    if force and there and not yes and not dry_run:
        confirm(f"Overwrite {counted(len(there), 'file')} in {directory.absolute()}: {', '.join(there)}?", "written")
    if not dry_run:
        _write(directory, written)
    found = {"directory": str(directory.absolute()), "written": list(written), "kept": kept}
    print_json({**found, "dry_run": dry_run})
    if not wants_json():
        _tell(directory, written, kept, dry_run=dry_run)


def _write(directory: Path, files: Mapping[str, str]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            path = directory / name
            replace_file(path, text.encode(), stat.S_IMODE(path.stat().st_mode) if path.exists() else 0o666)
    except OSError as error:
        where = error.filename or directory.absolute()
        raise CommandError(f"{where} cannot be written: {error.strerror}; choose another DIRECTORY") from error


def _tell(directory: Path, written: Mapping[str, str], kept: list[str], *, dry_run: bool) -> None:
    """Print which files were written; in a dry run print the files on stdout, and their names on stderr."""
    for name in kept:
        if dry_run:
            say(f"{directory / name} exists and would be kept; --force would overwrite it.")
        else:
            show(f"kept     {directory / name}, which exists; --force overwrites it")
    for name, text in written.items():
        if dry_run:
            say(f"{directory / name} would be written:")
            show(text)
        else:
            show(f"written  {directory / name}")
    if dry_run:
        return
    if directory.absolute() != Path.cwd():
        show()
        show_words(f"Go to this directory, where the commands find it by themselves:  cd {shlex.quote(str(directory))}")
    show(_NEXT)


@click.group(cls=Group)
def config() -> None:
    """See the configuration and where each value comes from; check it."""


@command(
    "rlm config show",
    "rlm config show run workers.max       # a section, a key",
    "rlm config show --json | jq '.settings[\"redis.url\"]'",
    name="show",
    group=config,
)
@click.argument("keys", metavar="[KEY]...", nargs=-1)
def show_settings(config: Path | None, keys: tuple[str, ...]) -> None:
    """Show every setting, its value, and where the value comes from.

    It comes from "default", the file, or the environment variable that is named. KEY shows only that setting, or all of
    a section or a type. Passwords, tokens, the values of headers and keys in URLs are masked.
    """
    settings = settings_of(config)
    found = _chosen(settings.shown, keys)
    values = {one.key: {"value": one.value, "from": one.where} for one in found}
    file = settings.source and str(settings.source)
    print_json({"file": file, "revision": settings.revision, "settings": values})
    where = f"The file is {settings.source}." if settings.source else "There is no file; `rlm init` writes one."
    show_words(f"{where} Revision {settings.revision}.")
    tables: dict[str, list[list[str]]] = {}
    for one in found:
        name, key = _TABLE.fullmatch(one.key).groups()  # type: ignore[union-attr]  # it matches any text
        tables.setdefault(name or "", []).append([f"  {key}", *_row(one, settings)])
    width = max(len(row[0]) for rows in tables.values() for row in rows)
    for name, rows in tables.items():
        show()
        title = styled(f"[{name}]" if name else "other", "title").ljust(width)
        fitted = _fitted(rows, max(width, width_of(title)))
        table([title, *[""] * (len(fitted[0]) - 1)], fitted, right=(), whole=True)


def _fitted(rows: list[list[str]], width: int) -> list[list[str]]:
    """Join value and origin into one cell if the terminal is too narrow for two; it then wraps before the origin."""
    values, origins = (max(width_of(row[index]) for row in rows) for index in (1, 2))
    over = width + values + origins + 4 - room()  # two spaces between columns
    if over <= 0:
        return rows
    return [[name, f"{value:<{max(0, values - over)}}  {origin}"] for name, value, origin in rows]


def _chosen(shown: Sequence[Shown], keys: Sequence[str]) -> list[Shown]:
    for key in keys:
        if not any(_is_of(one.key, key) for one in shown):
            near = did_you_mean(key, [one.key for one in shown])
            raise CommandError(f"There is no setting {key!r}{near}. `rlm config show` shows all.", ExitCode.USAGE)
    return [one for one in shown if not keys or any(_is_of(one.key, key) for key in keys)]


def _is_of(key: str, chosen: str) -> bool:
    return key == chosen or key.startswith((f"{chosen}.", f"{chosen}["))


def _row(one: Shown, settings: Settings) -> list[str]:
    from rlm.settings.toml import toml_value

    where = one.where.removeprefix("environment ")
    if settings.source is not None and where == f"file {settings.source}":
        where = settings.source.name
    value = "-" if one.value is None else safe_line(toml_value(one.value))
    return [value, styled(safe_line(where), "dim" if where == "default" else "busy")]


@command("rlm config check", "rlm config check --config /etc/rlm/rlm.toml && systemctl restart rlm", group=config)
def check(config: Path | None) -> None:
    """Check whether the configuration can be used; print everything that is wrong with it. Starts and contacts nothing.

    Exits with 2 if anything is wrong.
    """
    try:
        settings = settings_of(config)
    except ConfigurationError as error:
        print_json({"ok": False, "file": None, "faults": str(error).splitlines()})
        raise
    print_json({"ok": True, "file": settings.source and str(settings.source), "faults": []})
    named = {"type": settings.types, "endpoint": settings.endpoints, "budget": settings.budgets}
    facts = ", ".join(counted(len(found), noun) for noun, found in named.items())
    what = f"The configuration {settings.source}" if settings.source else "The built-in configuration"
    show_words(f"{styled('ok', 'ok')}  {what} can be used: {facts}. Revision {settings.revision}.")
    if settings.source is None:
        show_words("There is no rlm.toml here; `rlm init` writes one to begin with.")
