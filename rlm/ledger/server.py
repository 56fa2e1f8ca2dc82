"""The Redis in use: an embedded server, which runs while long-running processes use it, or one that others run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, TypeAlias

from rlm.core.errors import StoreUnreachableError
from rlm.ledger.embedded import EmbeddedServer, running
from rlm.ledger.keys import Keys, longest_bulk
from rlm.settings.secrets import EMBEDDED

if TYPE_CHECKING:
    from rlm.settings import Settings


class RemoteServer(AbstractContextManager["RemoteServer", None]):
    """A Redis that others run."""

    def __init__(self, url: str) -> None:
        self.url = url

    def __exit__(self, *_: object) -> None:
        """Do nothing."""

    def revive(self) -> None:
        """Do nothing, because others run it."""


Server: TypeAlias = EmbeddedServer | RemoteServer


def server_of(settings: Settings) -> Server:
    """Return the server of `settings`. As a context manager it keeps the embedded one running; so does `revive`.

    Both raise StoreError if it cannot be started, and leaving the context does if it cannot be stopped.
    """
    if settings.redis.url != EMBEDDED:
        return RemoteServer(settings.redis.url)
    longest = longest_bulk(settings.queue.max_item_bytes)
    lease = Keys(settings.redis.prefix, settings.queue).lease
    return EmbeddedServer(settings.data_dir, settings.redis.embedded_port, longest, lease)


def server_there(settings: Settings) -> RemoteServer:
    """Return the server of `settings` for a command that uses it and does not keep it running.

    Raises:
        StoreUnreachableError: it is an embedded one, and does not run.
    """
    if (url := running_url(settings)) is None:
        what = f"the embedded server of {str(settings.data_dir)!r} does not run"
        raise StoreUnreachableError(what, "`rlm up`, or any of its processes, or `rlm start --wait` starts it")
    return RemoteServer(url)


def running_url(settings: Settings) -> str | None:
    """Return the URL of the server of `settings`, None for an embedded one that does not run. This starts nothing."""
    if settings.redis.url != EMBEDDED:
        return settings.redis.url
    return EmbeddedServer(settings.data_dir).url if running(settings.data_dir) else None
