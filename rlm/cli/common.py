"""Shared by all commands: exit codes, errors, questions to the user, the store."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.options import JSON, STANDARD
from rlm.cli.printing import say, say_error
from rlm.core.text import did_you_mean, safe_words

if TYPE_CHECKING:
    from rlm.ledger.store import Store
    from rlm.processes.signals import StopSignals
    from rlm.settings import Settings


class ExitCode(IntEnum):
    """The exit status of a command."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    REDIS = 4
    INTERRUPTED = 130
    PIPE = 141


def command(
    *lines: str, name: str | None = None, group: click.Group | None = None, prints_data: bool = True
) -> Callable[[Callable[..., Any]], click.Command]:
    """Return a decorator for a command with examples, `--config`, `--debug` and, if it prints data, `--json`.

    `name` is by default the function's name. A command without a `group` is added to one elsewhere.
    """

    def decorate(function: Callable[..., Any]) -> click.Command:
        made = (group.command if group else click.command)(name, epilog=examples(*lines))(function)
        made.params += [*STANDARD, JSON] if prints_data else STANDARD
        return made

    return decorate


def examples(*lines: str) -> str:
    """Return the `epilog` of a command: its examples, one a line."""
    return "\n".join(["\b", "Examples:", *(f"  {line}" for line in lines)])


class CommandError(click.ClickException):
    """Raised to end a command with a message and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.FAILED) -> None:
        super().__init__(safe_words(message))
        self.exit_code = int(code)  # type: ignore[misc]  # as click does

    def show(self, _file: Any = None) -> None:
        """Print the message as an error; that of an interrupted command is only information."""
        if self.exit_code == ExitCode.INTERRUPTED:
            say(self.message)
        else:
            say_error(self.message)


def confirm(question: str, done: str = "removed") -> None:
    """Ask before something that cannot be undone; without a yes raise CommandError: Nothing was `done`."""
    try:
        if click.confirm(safe_words(question), err=True):
            return
    except click.Abort as abort:  # nobody can answer, or Ctrl-C
        if isinstance(abort.__context__, KeyboardInterrupt):
            raise CommandError(f"Nothing was {done}.", ExitCode.INTERRUPTED) from abort
    raise CommandError(f"Nothing was {done}. With --yes it is done without asking.")


def new_server(settings: Settings) -> str:
    """Return a warning if a process without a configuration is about to create an embedded server, else ''."""
    if settings.source is not None or settings.redis.url != "embedded" or settings.data_dir.exists():
        return ""
    return (
        "There is no configuration (no --config, no RLM_CONFIG, no ./rlm.toml): the built-in defaults are used, and an "
        f"embedded server is created in {settings.data_dir}. `rlm init` writes a configuration to begin with."
    )


def tell_unknown(store: Store, types: Iterable[str], endpoints: Iterable[str] = ()) -> None:
    """Print which of `types` and `endpoints`, for which nothing was found, are not configured."""
    settings = store.settings
    for kind, names, configured in (("type", types, settings.types), ("endpoint", endpoints, settings.endpoints)):
        for name in sorted(set(names) - set(configured)):
            say(f"No {kind} {safe_words(name)!r} is configured{did_you_mean(name, configured)}.")


def settings_of(config: Path | None, *, warns: bool = False) -> Settings:
    """Load the settings. Their modules are imported when a command runs, not for its help.

    `warns`: print it if an embedded server is about to be created without a configuration.
    """
    from rlm.settings import load_settings

    settings = load_settings(config)
    if warns and (words := new_server(settings)):
        say(words)
    return settings


def stop_signals(*, shows_life: bool = False) -> StopSignals:
    """Return a context manager that counts the stop signals of this process; `shows_life` is for `Wakeup`."""
    from rlm.processes.signals import StopSignals, Wakeup

    return StopSignals(Wakeup(shows_life=shows_life))


def store_of(config: Path | None) -> AbstractContextManager[Store]:
    """Load the settings and open their store; an embedded server must run."""
    return opened(settings_of(config))


@contextmanager
def opened(settings: Settings, *, keeps_server: bool = False) -> Iterator[Store]:
    """Open the store of `settings` and check that it answers; `keeps_server` keeps an embedded server running."""
    from rlm.ledger.store import Store

    with Store(settings, keeps_server=keeps_server) as store:
        store.ping()
        store.require_schema()
        yield store
