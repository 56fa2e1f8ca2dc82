"""`rlm init`: a commented configuration, a Procfile and an example of .env to begin with."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rlm.cli.common import CommandError, config_option, confirm, examples, json_option, yes_option
from rlm.cli.printing import print_json, say, show, show_words
from rlm.core.errors import UnsafeError
from rlm.core.files import replace_in, weakness
from rlm.core.text import counted

if TYPE_CHECKING:
    from collections.abc import Mapping

_EXAMPLE = ".env.example"
_NEXT = """\

Next, to see a run with these settings before you change them, all of it in this
directory:

  1. rlm mock-api        in a second terminal: the API that these settings call
  2. rlm up              in a third one: the server, a scheduler, a supervisor
  3. echo '{"id":"a-1","wallet_name":"w-1","events":["REBALANCE_NEEDED"]}' |
       rlm queue push    an item, as the audit system would push it
  4. rlm start --wait    sends what waits, and shows what became of it
  5. rlm result          shows that again; `rlm explain a-1` tells of the event

Ctrl-C ends 1 and 2. Then name your own APIs in rlm.toml; `rlm config check`
says whether it can be used, and `rlm doctor` whether all is well."""


@click.command(
    epilog=examples(
        "rlm init                     # here",
        "rlm init /etc/rlm",
        "rlm init --dry-run           # print what would be written",
        "rlm init --force             # write anew what is there, after asking",
    )
)
@click.argument("directory", type=click.Path(path_type=Path, file_okay=False), default=".", metavar="[DIRECTORY]")
@click.option("--force", is_flag=True, help="Overwrite files that are there; asks first.")
@yes_option
@click.option("--dry-run", is_flag=True, help="Print what would be written, and write nothing.")
@config_option
@json_option
def init(config: Path | None, directory: Path, *, force: bool, yes: bool, dry_run: bool, as_json: bool) -> None:
    """Write a commented rlm.toml, a Procfile and .env.example to begin with.

    They have every setting with its meaning and its default, so nothing has to be changed for a first run. A file that
    is there is never overwritten without --force. Says what to type next.
    """
    files = _files()
    there = [name for name in files if (directory / name).exists()]
    kept = [] if force else there
    written = [name for name in files if name not in kept]
    if config is not None:
        from rlm.settings import load_settings  # noqa: PLC0415  # a command loads what it needs when it runs

        load_settings(config)  # nothing of it is written; one that is wrong is not passed over, though
    if force and there and not yes and not dry_run:
        confirm(f"Overwrite {counted(len(there), 'file')} in {directory.absolute()}: {', '.join(there)}?", "written")
    if not dry_run:
        _write(directory, {name: files[name] for name in written})
    if as_json:
        print_json({"directory": str(directory.absolute()), "written": written, "kept": kept, "dry_run": dry_run})
    elif dry_run:
        _show_files(directory, {name: files[name] for name in written}, kept)
    else:
        _tell(directory, written, kept)


def _files() -> dict[str, str]:
    from rlm.settings.reference import (  # noqa: PLC0415  # a command loads what it needs when it runs
        PROCFILE,
        configuration_template,
        environment_template,
    )

    return {
        "rlm.toml": configuration_template(),
        "Procfile": PROCFILE,
        _EXAMPLE: environment_template(),
    }


def _write(directory: Path, files: Mapping[str, str]) -> None:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            mode = 0o600 if name == _EXAMPLE else 0o666  # a copy of it is as closed to others, and will hold secrets
            _write_whole(directory / name, text, mode)
    except OSError as error:
        where = error.filename or directory.absolute()
        raise CommandError(f"{where} cannot be written: {error.strerror}; choose another DIRECTORY") from error


def _write_whole(path: Path, text: str, mode: int) -> None:
    """Write a file or, on a full disk, leave all as it was; one that is there keeps its mode, and the links to it."""
    if path.is_symlink() and (found := weakness(path)):
        raise UnsafeError(f"file {path}: {found.what}", found.remedy)
    path = path.resolve()
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        kept = stat.S_IMODE(path.stat().st_mode) if path.exists() else None
        replace_in(directory, path.name, text.encode(), mode, kept)
    finally:
        os.close(directory)


def _show_files(directory: Path, files: Mapping[str, str], kept: list[str]) -> None:
    """Print what would be written, and on stderr what that is."""
    for name in kept:
        say(f"{directory / name} is there and would be kept; --force would overwrite it.")
    for name, text in files.items():
        say(f"{directory / name} would be written:")
        show(text)


def _tell(directory: Path, written: list[str], kept: list[str]) -> None:
    for name in kept:
        show(f"kept     {directory / name}, which is there; --force overwrites it")
    for name in written:
        show(f"written  {directory / name}")
    if directory.absolute() != Path.cwd():
        show()
        show_words(f"Go there, where the commands find it by themselves:  cd {shlex.quote(str(directory))}")
    show(_NEXT)
