"""The addresses of a name, looked up without holding a call up for longer than its time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any, TypeAlias

#: What `socket.getaddrinfo` returns: family, kind, protocol, canonical name, address of each.
Addresses: TypeAlias = Sequence[tuple[socket.AddressFamily, socket.SocketKind, int, str, Any]]


class Resolver:
    """Looks each name up once at a time, in a thread that nobody waits for at the end of the process.

    A look-up that hangs so holds no call beyond its time, and a name has one thread at most. Nothing is cached.
    """

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, int], Future[Addresses]] = {}
        self._lock = threading.Lock()

    def resolve(self, host: str, port: int, seconds: float) -> Addresses:
        """Return the addresses of `host`, waiting at most `seconds`.

        Raises:
            OSError: it has none, or they were not found in time.
            UnicodeError: it cannot be a name.
        """
        try:
            return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
        except socket.gaierror:  # it is a name
            found = self._look_up(host, port)
        try:
            return found.result(max(0.0, seconds))
        except TimeoutError:
            raise TimeoutError("timed out while its name was looked up") from None

    def _look_up(self, host: str, port: int) -> Future[Addresses]:
        """Return the look-up that is under way; begin one if there is none."""
        with self._lock:
            found = self._under_way.get((host, port))
            if found is None:
                found = self._under_way[host, port] = Future()
                args = host, port, found
                threading.Thread(target=self._run, args=args, name=f"resolve {host}", daemon=True).start()
            return found

    def _run(self, host: str, port: int, found: Future[Addresses]) -> None:
        try:
            addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            self._forget(host, port)
            found.set_exception(error)
        else:
            self._forget(host, port)
            found.set_result(addresses)

    def _forget(self, host: str, port: int) -> None:
        """Forget a look-up before it ends, so that whoever asks after its end begins a new one."""
        with self._lock:
            del self._under_way[host, port]
