"""How many connections a server holds at once, and which of them makes room for the next.

A process that runs out of file descriptors accepts nobody, and asyncio logs each try. So a server stays below that
limit: it closes the connection that is missed least, and whoever asks now is answered.
"""

from __future__ import annotations

import errno
import logging
import resource
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Protocol

from rlm.core.clock import system_clock

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Collection

    from rlm.core.clock import Clock

#: asyncio accepts up to this many clients in one turn of its loop. Those above the bound are closed a few turns later,
#: so a few times as many descriptors are taken for a moment.
AT_A_TURN: Final = 16
#: Clients that may wait in the kernel to be accepted; a whole system's workers connect in the same instant.
_WAITING: Final = 1024
#: Connections take at most this share of the descriptors a process may have; files and Redis need others.
_SHARE: Final = 0.5
#: Seconds between two log lines about the same trouble.
_TOLD_SECONDS: Final = 3600.0
_NO_DESCRIPTOR: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})

log = logging.getLogger(__name__)


class Held(Protocol):
    """A connection, as it is compared with others."""

    @property
    def peer(self) -> str:
        """The address of its client, without the port."""
        ...

    @property
    def busy(self) -> bool:
        """Whether a request of it is being answered."""
        ...

    @property
    def since(self) -> float:
        """When it was made or last answered, in seconds of any one clock."""
        ...

    def cut(self) -> None:
        """Close it at once, and no longer count it."""
        ...


class Ceiling:
    """At most `most` connections at once, and fewer where the process may have few file descriptors."""

    def __init__(self, most: int, clock: Clock = system_clock) -> None:
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        unlimited = soft == resource.RLIM_INFINITY
        self.most = most if unlimited else max(1, min(most, int(soft * _SHARE)))
        self._clock = clock
        self._told: dict[str, float] = {}

    def make_room(self, held: Collection[Held]) -> None:
        """Cut connections of `held`, from which `cut` takes them, until there is room for one more."""
        while len(held) >= self.most:
            self._tell("There are %d connections, the most there may be; for each new one an old one is closed")
            least_missed(held).cut()

    def on_loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Log once that there is no descriptor left, all else as asyncio does; for `loop.set_exception_handler`."""
        if getattr(context.get("exception"), "errno", None) in _NO_DESCRIPTOR:
            self._tell("No file descriptor is left to accept connections with, below the bound of %d; raise ulimit -n")
        else:
            loop.default_exception_handler(context)

    def _tell(self, message: str) -> None:
        now = self._clock.monotonic()
        if now - self._told.get(message, -_TOLD_SECONDS) >= _TOLD_SECONDS:
            self._told[message] = now
            log.warning(message, self.most, extra={"action": "bound"})


def least_missed(held: Collection[Held]) -> Held:
    """Return the connection to close: one of the client that has most, idle rather than busy, the longest so.

    A client that opens many so closes its own; many clients with one each lose those that say nothing.
    """
    counts = Counter(one.peer for one in held)
    return min(held, key=lambda one: (-counts[one.peer], one.busy, one.since))


def let_wait(server: asyncio.Server) -> None:
    """Have clients wait in the kernel: asyncio takes one number for that and for how many it accepts at a turn."""
    for one in server.sockets:
        with one.dup() as listening:
            listening.listen(_WAITING)
