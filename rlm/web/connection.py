"""One connection of a client: uvicorn's, but strict, bounded, and cut if nothing is answered on it for long."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from rlm.web.framing import StrictConnection

if TYPE_CHECKING:
    import asyncio

    from uvicorn.protocols.http.h11_impl import RequestResponseCycle

    from rlm.web.connections import Ceiling

#: A connection on which nothing was answered for so long is cut, seconds: its client said nothing, or only a part of
#: what it wants, or does not read. An answer takes longer only where Redis hangs, and Prometheus has given up by then.
PATIENCE_SECONDS = 20.0
#: A request line and headers may have this many bytes.
_MOST_HEAD = 16_384


class Connection(H11Protocol):
    """Keeps uvicorn's own time-outs, which begin with the first answer, and adds one for those that never get to it.

    A new one takes the place of another if there are as many as the `ceiling` allows.
    """

    def __init__(self, ceiling: Ceiling, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = StrictConnection(h11.SERVER, _MOST_HEAD)
        self.since = self.loop.time()
        self._ceiling = ceiling
        self._patience: asyncio.TimerHandle | None = None

    @property
    def peer(self) -> str:
        """The address of the client, without the port."""
        return self.client[0] if self.client else ""

    @property
    def busy(self) -> bool:
        """Whether a request is being answered."""
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, whatever uvicorn declares
        return cycle is not None and not cycle.response_complete

    def cut(self) -> None:
        """Close the connection at once, and no longer count it."""
        self.connections.discard(self)
        self.transport.abort()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Take a place among the connections, and begin to wait for the first answer."""
        self._ceiling.make_room(self.connections)  # type: ignore[arg-type]  # they are all of this class
        super().connection_made(transport)
        self._wait()

    def on_response_complete(self) -> None:
        """Begin to wait for the next one."""
        super().on_response_complete()
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        super().connection_lost(exc)
        if self._patience:
            self._patience.cancel()

    def _wait(self) -> None:
        if self._patience:
            self._patience.cancel()
        self.since = self.loop.time()
        self._patience = self.loop.call_later(PATIENCE_SECONDS, self.transport.abort)
