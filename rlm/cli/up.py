"""`rlm up`: all processes of the Procfile in one terminal, the embedded server included where that is configured."""

from __future__ import annotations

import os
import shlex
import shutil
import socket
import sys
import sysconfig
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click
from click.core import ParameterSource

from rlm.cli.common import examples, tell_new_server
from rlm.cli.options import config_option, log_format_option, volatile_option
from rlm.core.errors import ConfigurationError, RLMError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from honcho.printer import Printer

    from rlm.processes.foreman import Entry
    from rlm.settings import Settings

#: What runs without a Procfile.
DEFAULT_COMMANDS = ("scheduler", "supervisor")
#: Time for Redis to say who runs already, seconds; it need not answer yet.
_LOOK_SECONDS = 1.0


@click.command(epilog=examples("rlm up", "rlm up --config /etc/rlm/rlm.toml"))
@volatile_option
@config_option
@log_format_option
def up(config: Path | None, allow_volatile: bool) -> None:
    """Run all processes of the Procfile in this terminal.

    They are those of the Procfile beside the configuration file, else a scheduler and a supervisor. Variables in a .env
    file of the current directory are set for them. The embedded server, where that is configured, runs first and ends
    last.

    TERM or Ctrl-C stops the scheduler, which closes its run or hands it over, then the supervisor, whose workers finish
    the calls in flight, then the rest. A second one ends all of it at once. If one process ends by itself, all are
    stopped, and its exit code is that of this command.
    """
    from setproctitle import setproctitle

    from rlm.ledger.connect import connected
    from rlm.processes import signals
    from rlm.processes.foreman import Foreman
    from rlm.processes.signals import group_grace
    from rlm.settings import load_settings
    from rlm.settings.sources import current_directory

    setproctitle("rlm up")
    wakeup = signals.Wakeup()
    with signals.StopSignals(wakeup) as stop:
        environ = _with_format({**os.environ, **_read_dotenv(current_directory() / ".env")}, sys.stdout)
        settings = load_settings(config, environ)
        entries = _entries(settings, environ, allow_volatile=allow_volatile)
        tell_new_server(settings)
        with connected(settings) as server:
            foreman = Foreman(entries, _printer(environ, sys.stdout), wakeup, stop, group_grace(settings))
            foreman.say(_where(settings, server.url))
            if others := _others_here(settings, server.url):
                foreman.say(others)
            code = foreman.run()
    raise SystemExit(code)


def _with_format(environ: Mapping[str, str], output: TextIO) -> dict[str, str]:
    """Choose the log format of the processes by `output`, where their lines are shown; they only see a pipe."""
    from rlm.telemetry.logs import FORMAT_VARIABLE, LogFormat, is_coloured, log_format

    asked = {}
    context = click.get_current_context(silent=True)
    if context and context.get_parameter_source("log_format") is ParameterSource.COMMANDLINE:
        asked = {FORMAT_VARIABLE: os.environ[FORMAT_VARIABLE]}  # the option takes precedence over a .env file
    chosen = log_format({**environ, **asked}, output)
    colour = {"FORCE_COLOR": "1"} if chosen is LogFormat.TEXT and is_coloured(environ, output) else {}
    return {**environ, **colour, FORMAT_VARIABLE: chosen}


def _printer(environ: Mapping[str, str], output: TextIO) -> Printer:
    from rlm.telemetry.lines import JsonPrinter, TextPrinter
    from rlm.telemetry.logs import FORMAT_VARIABLE, LogFormat, is_coloured

    if environ[FORMAT_VARIABLE] == LogFormat.JSON:
        return JsonPrinter(output)
    return TextPrinter(output, coloured=is_coloured(environ, output))


def _where(settings: Settings, url: str) -> str:
    """Return where Redis is, for the audit system."""
    from rlm.settings.secrets import mask_url

    port = settings.redis.embedded_port if settings.redis.url == "embedded" else 0
    return f"Redis is at {mask_url(url)}" + (f", and for other programs at redis://127.0.0.1:{port}/0" if port else "")


def _others_here(settings: Settings, url: str) -> str:
    """Return a warning about a scheduler or supervisor on this host, '' if there is none or Redis does not answer."""
    from rlm.admin.doctor.processes import has_died
    from rlm.ledger.connect import make_client
    from rlm.ledger.keys import Keys
    from rlm.ledger.processes import Processes, Role

    found = []
    with suppress(RLMError), closing(make_client(url, socket_timeout=_LOOK_SECONDS)) as client:
        processes = Processes(client, Keys(settings))
        found = [
            f"{role} (pid {one.pid})"
            for role in (Role.SCHEDULER, Role.SUPERVISOR)
            for one in processes.alive(role)
            if one.host == socket.gethostname() and not has_died(one.id)
        ]
    if not found:
        return ""
    return (
        f"Runs here already: {', '.join(found)}; those started now come on top: a scheduler that stands by, a "
        "supervisor that shares in the workers. One `rlm up` a host is enough"
    )


def _entries(settings: Settings, environ: Mapping[str, str], *, allow_volatile: bool) -> list[Entry]:
    """Return the entries of the Procfile beside the configuration file, or the default ones."""
    from honcho.colour import get_colours

    from rlm.processes.foreman import Entry

    root = settings.source.parent if settings.source else Path.cwd()
    procfile = root / "Procfile"
    if not os.path.lexists(procfile):
        commands = _default_commands(allow_volatile=allow_volatile)
    elif allow_volatile:
        raise click.UsageError(f"--allow-volatile belongs behind the commands that stand in {procfile}.")
    else:
        commands = _read_procfile(procfile)
    env = _environment(settings, environ)
    return [
        Entry(name, command, env, root, colour)
        for (name, command), colour in zip(commands.items(), get_colours(), strict=False)
    ]


def _default_commands(*, allow_volatile: bool) -> dict[str, str]:
    flags = ["--allow-volatile"] if allow_volatile else []
    return {name: f"exec {shlex.join([sys.executable, '-P', '-m', 'rlm', name, *flags])}" for name in DEFAULT_COMMANDS}


def _read_procfile(path: Path) -> dict[str, str]:
    from honcho.environ import parse_procfile

    from rlm.core.files import read_trusted_text

    try:
        commands: dict[str, str] = parse_procfile(read_trusted_text(path)).processes
    except (OSError, UnicodeDecodeError, AssertionError) as error:
        raise ConfigurationError(f"file {path}: cannot be used: {error}") from error
    if not commands:
        raise ConfigurationError(f"file {path}: has no process; write for example `scheduler: exec rlm scheduler`")
    return commands


def _read_dotenv(path: Path) -> dict[str, str]:
    from honcho.environ import parse

    from rlm.core.files import read_trusted_text

    try:
        variables: dict[str, str] = parse(read_trusted_text(path)) if os.path.lexists(path) else {}
    except (OSError, ValueError) as error:
        raise ConfigurationError(f"file {path}: cannot be used: {error}; a line of it is NAME=value") from error
    return variables


def _environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Make the processes read the same configuration, and find this installation's `rlm` first."""
    scripts = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent)]
    found = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name == "rlm" else None
    if found:
        scripts.insert(0, str(Path(found).absolute().parent))
    path = os.pathsep.join(dict.fromkeys([*scripts, environ.get("PATH", os.defpath)]))
    named = {"RLM_CONFIG": str(settings.source)} if settings.source else {}
    return {**environ, **named, "PATH": path}
