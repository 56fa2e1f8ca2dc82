"""`rlm up`: all processes of the Procfile in one terminal, including the embedded server if it is configured."""

from __future__ import annotations

import os
import shlex
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from rlm.cli.common import command, new_server
from rlm.cli.options import process_options
from rlm.core.errors import ConfigurationError

if TYPE_CHECKING:
    from rlm.processes.procfile import LinePrinter
    from rlm.settings import Settings


@command("rlm up", "rlm up --config /etc/rlm/rlm.toml", prints_data=False)
@process_options
def up(config: Path | None, allow_volatile: bool) -> None:
    """Run all processes of the Procfile in this terminal.

    They are those of the Procfile beside the configuration file or, without one, a scheduler, a supervisor and the
    dashboard on http://127.0.0.1:8088. Variables in a .env file of the current directory are set for them, unless the
    environment has them. The first that needs the embedded server, if it is configured, starts it; the last ends it.

    TERM or Ctrl-C stops them: workers finish the calls in flight, and the next start goes on with an open run. A
    second one ends all at once. If one process ends by itself, all are stopped, and this command exits with its exit
    code.
    """
    from setproctitle import setproctitle

    from rlm.processes.procfile import Foreman
    from rlm.processes.signals import Layer, grace_seconds
    from rlm.settings import load_settings

    setproctitle("rlm up")
    environ, printer = _with_format({**_variables(_read(Path(".env").absolute()) or ""), **os.environ}, sys.stdout)
    settings = load_settings(config, environ)
    foreman = Foreman(printer, grace_seconds(settings, Layer.GROUP))
    root = settings.source.parent if settings.source else Path.cwd()
    for name, words in _commands(root / "Procfile", allow_volatile=allow_volatile).items():
        foreman.add_process(name, words, env=_environment(settings, environ), cwd=str(root))
    for words in filter(None, (new_server(settings), _where(settings))):
        foreman.say(words)
    raise SystemExit(foreman.run())


def _variables(text: str) -> dict[str, str]:
    """Return the variables of a .env file, NAME=VALUE on each line; quotes around a value are no part of it."""
    pairs = (line.partition("=") for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {name.strip(): value.strip().strip("\"'") for name, equals, value in pairs if equals}


def _with_format(environ: Mapping[str, str], output: TextIO) -> tuple[dict[str, str], LinePrinter]:
    """Choose the processes' log format by `output`, where their lines are shown; they only see a pipe."""
    from rlm.processes.procfile import LinePrinter
    from rlm.telemetry.logs import FORMAT_VARIABLE, is_coloured, is_json

    as_json, coloured = is_json(environ, output), is_coloured(environ, output)
    colour = {"FORCE_COLOR": "1"} if coloured else {}
    printer = LinePrinter(output, as_json=as_json, coloured=coloured)
    return {**environ, **colour, FORMAT_VARIABLE: "json" if as_json else "text"}, printer


def _where(settings: Settings) -> str:
    """Return the address of Redis, for the audit system."""
    from rlm.ledger.store import url_in_use
    from rlm.settings.secrets import mask_url

    url = url_in_use(settings)
    port = settings.redis.embedded_port if settings.redis.url == "embedded" else 0
    return f"Redis is at {mask_url(url)}" + (f", and for other programs at redis://127.0.0.1:{port}/0" if port else "")


def _commands(procfile: Path, *, allow_volatile: bool) -> dict[str, str]:
    """Return the processes of a Procfile; the default ones if there is none."""
    from honcho.environ import parse_procfile

    text = _read(procfile)
    if text is None:
        rlm = ["exec", sys.executable, "-P", "-m", "rlm"]
        flags = ["--allow-volatile"] if allow_volatile else []
        words = {"scheduler": ["scheduler", *flags], "supervisor": ["supervisor", *flags], "web": ["web"]}
        return {name: shlex.join([*rlm, *each]) for name, each in words.items()}
    if allow_volatile:
        raise click.UsageError(f"--allow-volatile belongs after the commands in {procfile}.")
    try:
        commands: dict[str, str] = parse_procfile(text).processes
    except AssertionError as error:  # a name is repeated
        raise ConfigurationError(f"file {procfile}: cannot be used: {error}") from error
    if not commands:
        raise ConfigurationError(f"file {procfile}: has no process; write `scheduler: exec rlm scheduler`, for example")
    return commands


def _read(path: Path) -> str | None:
    """Return the text of a file that the user trusts; None if there is none."""
    from rlm.core.files import read_trusted

    try:
        return read_trusted(path).decode().replace("\r\n", "\n") if os.path.lexists(path) else None
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"file {path}: cannot be used: {error}") from error


def _environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with this configuration, in which this installation's `rlm` is found first."""
    path = os.pathsep.join([sysconfig.get_path("scripts"), environ.get("PATH", os.defpath)])
    config = {"RLM_CONFIG": str(settings.source)} if settings.source else {}
    return {**environ, **config, "PATH": path}
