"""Views that go on: look, show, wait, until there is nothing more to see or somebody has seen enough."""

from __future__ import annotations

import signal
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import click

from rlm.cli.durations import Duration
from rlm.cli.keys import keyboard
from rlm.core.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from rlm.ledger import Store
    from rlm.terminal import Output

#: How often `--follow` looks where nobody says otherwise, seconds.
FOLLOW_SECONDS = 1.0
#: The shortest and the longest time between two looks, seconds.
SHORTEST_SECONDS, LONGEST_SECONDS = 0.1, 3600.0

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Detached(BaseException):
    """Raised where a signal comes while somebody watches: they have seen enough. No handler of errors catches it."""


def interval_option(default: float) -> Callable[[Any], Any]:
    """Make the option of how often to look."""
    return click.option(
        "--interval",
        type=Duration(SHORTEST_SECONDS, LONGEST_SECONDS),
        metavar="DURATION",
        help=f"Look this often.  [default: {default:g}s]",
    )


def watch(
    store: Store,
    look: Callable[[], dict[str, Any]],
    output: Output,
    interval: float,
    is_last: Callable[[dict[str, Any]], bool] = lambda _document: False,
) -> dict[str, Any] | None:
    """Show what `look` returns every `interval` seconds; return the last document, None for a signal or a typed `q`.

    Redis may go away meanwhile: that is shown, and the view goes on when it is back.
    """
    try:
        with detachable(), keyboard() as typed, output:
            while True:
                document = look_once(store, look, output)
                if document is not None:
                    output.show(document)
                if document is not None and is_last(document):
                    return document
                if typed.wait(interval):
                    return None
    except Detached:
        return None


def look_once(store: Store, look: Callable[[], dict[str, Any]], output: Output) -> dict[str, Any] | None:
    """Return what `look` returns; where Redis does not answer, show that and return None."""
    try:
        return look()
    except StoreError as error:
        output.trouble(str(error))
        with suppress(StoreError):  # told in the next round, if it lasts
            store.revive()
        return None


@contextmanager
def detachable() -> Iterator[None]:
    """Let the first Ctrl-C (or TERM, HUP) raise `Detached` wherever the block is, even while it waits for Redis."""
    seen = False

    def detach(_signum: int, _frame: FrameType | None) -> None:
        nonlocal seen
        if seen:  # what is being put in order is not to be interrupted
            return
        seen = True
        raise Detached

    heard = [one for one in _SIGNALS if signal.getsignal(one) is not signal.SIG_IGN]  # nohup has HUP ignored
    previous = {one: signal.signal(one, detach) for one in heard}
    try:
        yield
    finally:
        for one, handler in previous.items():
            signal.signal(one, handler)
