"""One connection of a client: uvicorn's, but cut off where nothing is answered on it for long."""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

#: A connection on which nothing was answered for so long is cut, seconds: its client said nothing, or only a part of
#: what it wants, or does not read. An answer takes longer only where Redis hangs, and Prometheus has given up by then.
PATIENCE_SECONDS = 20.0


class Connection(H11Protocol):
    """Keeps uvicorn's own time-outs, which begin with the first answer, and adds one for those that never get to it.

    Else as many silent clients as there may be connections would keep everybody out for as long as they like.
    """

    _patience: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin to wait for the first answer."""
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
        self._patience = self.loop.call_later(PATIENCE_SECONDS, self.transport.abort)
