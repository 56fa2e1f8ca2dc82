"""A TCP proxy between RLM and a server that fails like a network on command; a Redis proxy also knows each call.

It listens on loopback and forwards to a TCP port or a Unix socket. `Proxy` has the commands for all proxies;
`RedisProxy` reads the requests, names the place in RLM that each comes from, and fails one of them.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum

import hiredis

from rlm.ledger.scripts import SCRIPTS, Script

_CHUNK = 65_536


class Proxy:
    """One listener in an event loop of its own thread; use it as a context manager.

    `target` is a port of 127.0.0.1 or the path of a Unix socket. Every method may be called from any thread.
    """

    def __init__(self, target: int | str) -> None:
        self.target = target
        self.port = 0
        self.connections = 0
        #: Bytes a second in each direction of each connection; 0 is unlimited.
        self.bytes_per_second = 0
        #: Seconds that forwarded data takes in either direction.
        self.delay_seconds = 0.0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name=f"proxy({target})", daemon=True)
        self.server: asyncio.Server | None = None
        self.open: dict[asyncio.StreamWriter, asyncio.Task[None]] = {}

    def __enter__(self):
        self.thread.start()
        self.ask(self.listen())
        return self

    def __exit__(self, *_exc):
        self.ask(self.unlisten())
        self.ask(self.loop.shutdown_asyncgens())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    def refuse(self) -> None:
        """Cut every connection and refuse new ones, as if nobody listened."""
        self.ask(self.unlisten())

    def accept(self) -> None:
        """Listen again, on the same port."""
        self.ask(self.listen())

    def cut(self) -> None:
        """Reset every connection; new ones are accepted."""
        self.ask(self.cut_through())

    def ask(self, work):
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(10)

    async def listen(self) -> None:
        if self.server is None:
            self.server = await asyncio.start_server(self.serve, "127.0.0.1", self.port, backlog=1024)
            self.port = self.server.sockets[0].getsockname()[1]

    async def unlisten(self) -> None:
        server, self.server = self.server, None
        if server is not None:
            server.close()
            await self.cut_through()

    async def cut_through(self) -> None:
        tasks = list(self.open.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def serve(self, reader, writer) -> None:
        self.connections += 1
        self.open[writer] = asyncio.current_task()
        upstream = None
        try:
            upstream = await self.reach()
            await self.carry(reader, writer, *upstream)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # either side went, or was cut: so does the other
        finally:
            del self.open[writer]
            for one in (writer, *(upstream or ())[1:]):
                _reset(one)

    async def reach(self):
        if isinstance(self.target, str):
            return await asyncio.open_unix_connection(self.target, limit=2**24)
        return await asyncio.open_connection("127.0.0.1", self.target, limit=2**24)

    async def carry(self, reader, writer, up_reader, up_writer) -> None:
        """Carry one connection until either side ends; overridden by proxies that know the protocol."""
        await first_of(self.pass_on(reader, up_writer), self.pass_on(up_reader, writer))

    async def pass_on(self, reader, writer) -> None:
        """Copy one direction until its end."""
        while data := await reader.read(_CHUNK):
            await self.write(writer, data)

    async def write(self, writer, data: bytes) -> None:
        """Write after the delay, at the allowed speed."""
        if self.delay_seconds:
            await asyncio.sleep(self.delay_seconds)
        step = max(1, self.bytes_per_second // 20) if self.bytes_per_second else len(data)
        for start in range(0, len(data), step):
            writer.write(data[start : start + step])
            await writer.drain()
            if self.bytes_per_second:
                await asyncio.sleep(step / self.bytes_per_second)


async def first_of(*work) -> None:
    """Run several until the first one ends, then end the others."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close at once, with an RST if possible."""
    with suppress(OSError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Fault(StrEnum):
    """What may happen to one request."""

    #: It is carried out, but its answer is lost and the connection cut.
    LOST = "reply lost"
    #: The connection is cut before the server receives it.
    RESET = "reset"
    #: It is delayed for longer than the client waits, and then carried out even so.
    STALL = "stall"
    #: The server forgets its scripts just before.
    FLUSH = "scripts flushed"


@dataclass
class Arming:
    """A fault for the `nth` request from now on of a call site."""

    site: str
    fault: Fault
    nth: int = 1
    fired: threading.Event = field(default_factory=threading.Event)


class RedisProxy(Proxy):
    """Forwards to Redis and knows the requests: what RLM sends together is one: a command, a script or a pipeline."""

    #: Seconds by which a stalled request is delayed: the clients wait 5.
    stall_seconds = 5.5

    def __init__(self, target: str) -> None:
        super().__init__(target)
        self.seen: dict[str, int] = {}
        self.armed: Arming | None = None

    @property
    def url(self) -> str:
        """Return the URL of Redis for RLM."""
        return f"redis://127.0.0.1:{self.port}"

    def arm(self, site: str, fault: Fault, nth: int = 1) -> Arming:
        """Fail the `nth` request of a call site from now on, once; `fired` of the result is when."""
        self.armed = Arming(site, fault, nth)
        return self.armed

    def disarm(self) -> None:
        """Let everything pass."""
        self.armed = None

    async def carry(self, reader, writer, up_reader, up_writer) -> None:
        """Carry one client's connection."""
        lost = _Lost()
        await first_of(self.requests(reader, up_writer, lost), self.replies(up_reader, writer, lost))

    async def requests(self, reader, up_writer, lost: _Lost) -> None:
        parser, raw = hiredis.Reader(), b""
        commands: list[list[bytes]] = []
        while data := await reader.read(_CHUNK):
            raw += data
            parser.feed(data)
            while (command := parser.gets()) is not False:
                commands.append(command)
            if parser.has_data() or _is_open(commands):
                continue  # the rest of it is on its way
            fault = self.fault(site_of(commands))
            if fault is Fault.RESET:
                return
            if fault is Fault.FLUSH:
                await self.flush_scripts()
            elif fault is not None:
                lost.replies = len(commands)
            if fault is Fault.STALL:
                await asyncio.sleep(self.stall_seconds)
            await self.write(up_writer, raw)
            raw, commands = b"", []

    async def replies(self, up_reader, writer, lost: _Lost) -> None:
        while data := await up_reader.read(_CHUNK):
            if lost.replies is None:
                await self.write(writer, data)
            elif lost.all_in(data):
                return

    async def flush_scripts(self) -> None:
        reader, writer = await self.reach()
        writer.write(b"SCRIPT FLUSH\r\n")
        assert await reader.readline() == b"+OK\r\n"
        writer.close()

    def fault(self, site: str) -> Fault | None:
        self.seen[site] = self.seen.get(site, 0) + 1
        armed = self.armed
        if armed is None or armed.site != site:
            return None
        armed.nth -= 1
        if armed.nth:
            return None
        self.armed = None
        armed.fired.set()
        return armed.fault


class _Lost:
    """Counts the swallowed replies, so that everything is carried out before the connection is cut."""

    def __init__(self) -> None:
        self.replies: int | None = None
        self.parser = hiredis.Reader()

    def all_in(self, data: bytes) -> bool:
        self.parser.feed(data)
        while self.replies and self.parser.gets() is not False:
            self.replies -= 1
        return not self.replies


def _is_open(commands: list[list[bytes]]) -> bool:
    """Return whether a transaction has begun and not ended."""
    names = [one[0].upper() for one in commands]
    return names.count(b"MULTI") > names.count(b"EXEC")


def site_of(commands: list[list[bytes]]) -> str:
    """Name the call site of what was sent together: scripts by their names, commands with the kind of their key."""
    names = [_name(one) for one in commands]
    kinds = sorted({name for name in names if name not in {"multi", "exec"}})
    if names[0] == "multi":
        return f"multi({', '.join(kinds)})"
    return kinds[0] if len(kinds) == 1 else f"pipeline({', '.join(kinds)})"


def _name(command: list[bytes]) -> str:
    words = [one.decode(errors="replace") for one in command]
    verb = words[0].lower()
    if verb == "evalsha":
        return _SCRIPTS.get(words[1], words[1])
    if verb in {"client", "script", "config"}:
        return f"{verb} {words[1].lower()}"
    return " ".join([verb, *(_kind(one) for one in words[1:2])])


def _kind(key: str) -> str:
    """Return what a key is for, without prefix and ids."""
    parts = key.split(":")
    if parts[0] == "rlm":
        kept = 2 if parts[1] == "wake" else 1
        return ":".join(parts[1 : 1 + kept])
    return key if key.startswith("wallet_") else ""


_SCRIPTS = {Script(name).sha: name for name in SCRIPTS}
