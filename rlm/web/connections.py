"""How many connections a server holds at once, and which one it closes for the next.

A process without free file descriptors accepts no connection, and asyncio logs each attempt. So a server stays below
that limit: it closes the least useful connection and answers the new client.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import resource
from collections import Counter
from collections.abc import Collection
from typing import Any, Final, Protocol

from rlm.core.clock import Clock, system_clock
from rlm.telemetry.logs import Bounded

#: asyncio accepts up to this many clients in one iteration of its loop. Those above the bound are closed a few
#: iterations later, so briefly a few times as many descriptors are used.
AT_A_TURN: Final = 16
#: Most clients to wait in the kernel to be accepted; all workers of a system connect at the same instant.
_WAITING: Final = 1024
#: Connections use at most this share of the process's descriptors; files and Redis need others.
_SHARE: Final = 0.5
#: Minimum seconds between two log lines about the same trouble.
_QUIET_SECONDS: Final = 3600.0
_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = logging.getLogger(__name__)


class HeldConnection(Protocol):
    """The properties by which connections are compared."""

    #: The address of its client, without the port.
    peer: str
    #: When it was made or last answered, in seconds of any one clock.
    since: float

    @property
    def busy(self) -> bool:
        """Whether one of its requests is being answered."""
        ...

    def cut(self) -> None:
        """Close it at once, and stop counting it."""
        ...


class Ceiling:
    """At most `most` connections at once, and fewer if the process may have only few file descriptors."""

    def __init__(self, most: int, clock: Clock = system_clock) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        unlimited = soft == resource.RLIM_INFINITY
        self.most = most if unlimited else max(1, min(most, int(soft * _SHARE)))
        self._bounded = Bounded(_QUIET_SECONDS, clock)

    def make_room(self, held: Collection[HeldConnection]) -> None:
        """Cut connections of `held` until there is room for one more; `cut` removes them from it."""
        while len(held) >= self.most:
            self._warn("There are %d connections, the most allowed; for each new one an old one is closed")
            least_missed(held).cut()

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log a lack of descriptors once, any other error as asyncio does; for `loop.set_exception_handler`."""
        if getattr(context.get("exception"), "errno", None) in _NO_DESCRIPTOR:
            self._warn("No file descriptor is left to accept connections, below the bound of %d; raise ulimit -n")
        else:
            loop.default_exception_handler(context)

    def _warn(self, message: str) -> None:
        if self._bounded.admit(message) is not None:
            log.warning(message, self.most, extra={"action": "bound"})


def least_missed(held: Collection[HeldConnection]) -> HeldConnection:
    """Return the connection to close: of the client with the most, idle before busy, oldest first.

    So a client that opens many closes its own; of many clients with one each, the silent ones lose theirs.
    """
    counts = Counter(one.peer for one in held)
    return min(held, key=lambda one: (-counts[one.peer], one.busy, one.since))


def let_wait(server: asyncio.Server) -> None:
    """Let clients wait in the kernel: asyncio uses one number both for that and for its accepts per iteration."""
    for one in server.sockets:
        with one.dup() as listening:
            listening.listen(_WAITING)
