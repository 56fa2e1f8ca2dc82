"""`rlm up`: all processes of the Procfile in one terminal, including the embedded server if it is configured."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
import sysconfig
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

import click
from click.core import ParameterSource

from rlm.cli.common import command, stop_signals, tell_new_server
from rlm.cli.options import process_options
from rlm.core.errors import ConfigurationError, RLMError

if TYPE_CHECKING:
    from rlm.processes.procfile import Printer
    from rlm.settings import Settings

#: The processes without a Procfile, and those that accept `--allow-volatile`.
DEFAULT_COMMANDS = {"scheduler": ("scheduler",), "supervisor": ("supervisor",), "web": ("web", "--wait")}
_REFUSE_VOLATILE = ("scheduler", "supervisor")
#: Seconds for Redis to report running processes; it need not answer yet.
_LOOK_SECONDS = 1.0


@command("rlm up", "rlm up --config /etc/rlm/rlm.toml", prints_data=False)
@process_options
def up(config: Path | None, allow_volatile: bool) -> None:
    """Run all processes of the Procfile in this terminal.

    They are those of the Procfile beside the configuration file or, without one, a scheduler, a supervisor and the
    dashboard on http://127.0.0.1:8088. Variables in a .env file of the current directory are set for them. The first
    that needs the embedded server, if it is configured, starts it; the last one ends it.

    TERM or Ctrl-C stops the scheduler, which closes its run or hands it over, then the supervisor, whose workers finish
    the calls in flight, then the rest. A second one ends all at once. If one process ends by itself, all are stopped,
    and this command exits with its exit code.
    """
    from setproctitle import setproctitle

    from rlm.processes.procfile import Foreman
    from rlm.processes.signals import group_grace
    from rlm.settings import load_settings
    from rlm.settings.layers import current_directory

    setproctitle("rlm up")
    with stop_signals() as stop:
        environ = _with_format({**os.environ, **_read_dotenv(current_directory() / ".env")}, sys.stdout)
        settings = load_settings(config, environ)
        foreman = Foreman(_printer(environ, sys.stdout), stop, group_grace(settings))
        env, root = _environment(settings, environ), str(_root(settings))
        for name, words in _commands(settings, allow_volatile=allow_volatile).items():
            foreman.add_process(name, words, env=env, cwd=root)
        tell_new_server(settings)
        foreman.say(_where(settings))
        if others := _others_here(settings):
            foreman.say(others)
        code = foreman.run()
    raise SystemExit(code)


def _with_format(environ: Mapping[str, str], output: TextIO) -> dict[str, str]:
    """Choose the processes' log format by `output`, where their lines are shown; they only see a pipe."""
    from rlm.telemetry.logs import FORMAT_VARIABLE, LogFormat, is_coloured, log_format

    context = click.get_current_context(silent=True)
    if context and context.get_parameter_source("log_format") is ParameterSource.COMMANDLINE:
        environ = {**environ, FORMAT_VARIABLE: os.environ[FORMAT_VARIABLE]}  # the option overrides a .env file
    chosen = log_format(environ, output)
    colour = {"FORCE_COLOR": "1"} if chosen is LogFormat.TEXT and is_coloured(environ, output) else {}
    return {**environ, **colour, FORMAT_VARIABLE: chosen}


def _printer(environ: Mapping[str, str], output: TextIO) -> Printer:
    from rlm.processes.procfile import JsonPrinter, TextPrinter
    from rlm.telemetry.logs import FORMAT_VARIABLE, LogFormat, is_coloured

    if environ[FORMAT_VARIABLE] == LogFormat.JSON:
        return JsonPrinter(output)
    return TextPrinter(output, coloured=is_coloured(environ, output))


def _where(settings: Settings) -> str:
    """Return the address of Redis, for the audit system."""
    from rlm.ledger.store import url_in_use
    from rlm.settings.secrets import mask_url

    url = url_in_use(settings)
    port = settings.redis.embedded_port if settings.redis.url == "embedded" else 0
    return f"Redis is at {mask_url(url)}" + (f", and for other programs at redis://127.0.0.1:{port}/0" if port else "")


def _others_here(settings: Settings) -> str:
    """Return a warning about a scheduler or supervisor on this host; '' if there is none or Redis does not answer."""
    from rlm.ledger import Store
    from rlm.ledger.processes import Role
    from rlm.processes.alive import has_died

    found = []
    with suppress(RLMError), Store(settings, answer_seconds=_LOOK_SECONDS) as store:
        found = [
            f"{role} (pid {one.pid})"
            for role in (Role.SCHEDULER, Role.SUPERVISOR)
            for one in store.processes.alive(role)
            if one.host == settings.host_name and not has_died(one.id, settings.host_name)
        ]
    more = "a scheduler that stands by, a supervisor that shares the workers. One `rlm up` per host is enough"
    return f"Already running here: {', '.join(found)}; those started now come on top: {more}" if found else ""


def _root(settings: Settings) -> Path:
    """Return the directory of the configuration file, in which the processes run."""
    return settings.source.parent if settings.source else Path.cwd()


def _commands(settings: Settings, *, allow_volatile: bool) -> dict[str, str]:
    """Return the processes of the Procfile beside the configuration file, or the default ones."""
    from honcho.environ import parse_procfile

    procfile = _root(settings) / "Procfile"
    if not os.path.lexists(procfile):
        rlm = ["exec", sys.executable, "-P", "-m", "rlm"]
        flags = {name: ["--allow-volatile"] for name in _REFUSE_VOLATILE if allow_volatile}
        return {name: shlex.join([*rlm, *words, *flags.get(name, [])]) for name, words in DEFAULT_COMMANDS.items()}
    if allow_volatile:
        raise click.UsageError(f"--allow-volatile belongs after the commands in {procfile}.")
    commands: dict[str, str] = _read(procfile, parse_procfile).processes
    if not commands:
        words = "has no process; write for example `scheduler: exec rlm scheduler`"
        raise ConfigurationError(f"file {procfile}: {words}")
    return commands


def _read_dotenv(path: Path) -> dict[str, str]:
    from rlm.settings.layers import parse_dotenv

    variables: dict[str, str] = _read(path, parse_dotenv) if os.path.lexists(path) else {}
    return variables


def _read(path: Path, parse: Callable[[str], Any]) -> Any:
    from rlm.core.files import read_trusted_text

    try:
        return parse(read_trusted_text(path))
    except PermissionError as error:
        raise ConfigurationError(f"file {path}: cannot be read: let the user who runs RLM read it") from error
    except (OSError, ValueError, AssertionError) as error:  # honcho asserts that no name in a Procfile is repeated
        raise ConfigurationError(f"file {path}: cannot be used: {error}") from error


def _environment(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return an environment with this configuration, in which this installation's `rlm` is found first."""
    scripts = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent)]
    found = shutil.which(sys.argv[0]) if Path(sys.argv[0]).name == "rlm" else None
    if found:
        scripts.insert(0, str(Path(found).absolute().parent))
    path = os.pathsep.join(dict.fromkeys([*scripts, environ.get("PATH", os.defpath)]))
    named = {"RLM_CONFIG": str(settings.source)} if settings.source else {}
    return {**environ, **named, "PATH": path}
