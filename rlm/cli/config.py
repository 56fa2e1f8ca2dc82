"""Setup: `rlm init` writes a first configuration, `rlm config` shows and checks it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rlm.cli.common import CommandError, command, settings_of
from rlm.cli.printing import print_json, show, styled, table
from rlm.core.errors import ConfigurationError
from rlm.core.text import counted, safe_line

if TYPE_CHECKING:
    from rlm.settings import Shown

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


@command("rlm init                     # here", "rlm init /etc/rlm")
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=".", metavar="[DIRECTORY]")
def init(config: Path | None, directory: Path) -> None:
    """Write a commented rlm.toml and a Procfile to begin with.

    They have every setting with its meaning and its default, so nothing has to be changed for a first run. A file that
    exists is kept. Prints what to type next.
    """
    from rlm.settings.layers import FIRST

    if config is not None:
        settings_of(config)  # it is not used, but a faulty file is reported
    files: dict[str, list[str]] = {"written": [], "kept": []}
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name in ("rlm.toml", "Procfile"):
            path = directory / name
            what = "kept" if path.exists() or path.is_symlink() else "written"
            files[what].append(name)
            show(f"{what:<7}  {path}")
            if what == "written":
                path.write_bytes((FIRST / name).read_bytes())
    except OSError as error:
        where = error.filename or directory
        raise CommandError(f"{where} cannot be written: {error.strerror}; choose another DIRECTORY") from error
    here = directory.absolute()
    print_json({"directory": str(here), **files})
    if here != Path.cwd():
        show(f"\nGo to this directory, where the commands find it by themselves:  cd {shlex.quote(str(here))}")
    show(_NEXT)


@click.group()
def config() -> None:
    """See the configuration and where each value comes from; check it."""


@command("rlm config show", "rlm config show --json | jq '.settings[\"redis.url\"]'", name="show", group=config)
def show_settings(config: Path | None) -> None:
    """Show every setting, its value, and where the value comes from.

    It comes from "default", the file, or the environment variable that is named. Passwords, tokens, the values of
    headers and keys in URLs are masked.
    """
    settings = settings_of(config)
    file = settings.source and str(settings.source)
    values = {shown.key: {"value": shown.value, "from": shown.where} for shown in settings.shown}
    print_json({"file": file, "revision": settings.revision, "settings": values})
    where = f"The file is {file}." if file else "There is no file; `rlm init` writes one."
    show(f"{where} Revision {settings.revision}.\n")
    table(["setting", "value", "from"], map(_row, settings.shown))


def _row(shown: Shown) -> list[str]:
    from rlm.settings.layers import toml_value

    where = shown.where.removeprefix("environment ")
    where = Path(where).name if where.startswith("file ") else where
    value = "-" if shown.value is None else toml_value(shown.value)
    return [shown.key, value, styled(safe_line(where), "dim" if where == "default" else "busy")]


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
    facts = ", ".join(counted(len(those), noun) for noun, those in named.items())
    what = f"The configuration {settings.source}" if settings.source else "The built-in configuration"
    show(f"{styled('ok', 'ok')}  {what} can be used: {facts}. Revision {settings.revision}.")
    if settings.source is None:
        show("There is no rlm.toml here; `rlm init` writes one to begin with.")
