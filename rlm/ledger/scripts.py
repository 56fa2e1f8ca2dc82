"""How the parts of the store ask Redis: Lua scripts, one a verb, alone or in a pipeline, plain commands, and reads.

Errors come in RLM's own words.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from importlib import resources
from typing import Any, TypeAlias, cast

import redis
from redis.exceptions import NoScriptError, ResponseError

from rlm.core.errors import FencedError, StoreError
from rlm.ledger.client import LASTING, LedgerClient, is_cluster, run_lasting
from rlm.ledger.connect import MICROSECONDS, translated, translating
from rlm.ledger.keys import Keys
from rlm.ledger.trouble import forbidden, in_own_words, is_forbidden, place

#: Events moved by one script at the most, so that no script holds Redis up.
CHUNK = 200
#: Entries of a list that may be very long, read by one command at the most: some milliseconds.
SLICE = 10_000

Argument: TypeAlias = str | bytes | int | float
#: The keys and arguments of a script.
Call: TypeAlias = "tuple[Sequence[str], Sequence[Argument]]"


_SECTION = re.compile(rb"^--- ([a-z_]+)\n", re.MULTILINE)
_HEADER = re.compile(rb"\A(--[^\n]*\n)+")
#: It begins with the end of the line before: a search for `^` would try each character of all scripts, at each start.
_INCLUDE = re.compile(rb"\n *-- include ([a-z_]+)(?=\n)")


def _read_sections() -> dict[str, bytes]:
    """Read the sections of all files of `lua/` by their titles, which are lines `--- TITLE`."""
    found: dict[str, bytes] = {}
    for file in resources.files("rlm.ledger").joinpath("lua").iterdir():
        _, *parts = _SECTION.split(file.read_bytes())
        found.update(zip(map(bytes.decode, parts[::2]), parts[1::2], strict=True))
    return found


#: All are read at once: a process goes on with the scripts that it began with, whatever is installed meanwhile.
_SECTIONS = _read_sections()
_INCLUDED = {title.decode() for source in _SECTIONS.values() for title in _INCLUDE.findall(source)}
#: The scripts by name: the sections that none includes. A line `-- include NAME` is replaced by the code of that one.
SOURCES = {
    name: _INCLUDE.sub(lambda line: b"\n" + _HEADER.sub(b"", _SECTIONS[line[1].decode()]).removesuffix(b"\n"), source)
    for name, source in _SECTIONS.items()
    if name not in _INCLUDED
}


class Script:
    """One script of `rlm/ledger/lua`, named by its section."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = SOURCES[name]
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()

    def __call__(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Argument] = ()) -> Any:
        """Run it and return its reply.

        Raises:
            FencedError: a newer conductor holds the lease; nothing was written.
            StoreUnreachableError: Redis cannot be reached; whether it ran is not known.
            StoreError: Redis refused it.
        """
        with translated(client):
            try:
                return self._run(client, keys, args)
            except ResponseError as error:
                raise _translate(client, self, error) from error

    def begin(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Argument]) -> Callable[[], Any]:
        """Send it off; return what waits for its reply, which must be called once, whatever happens meanwhile.

        Both raise what a call raises. It must be none of those that wait for replicas.
        """
        with translated(client):
            told = cast("LedgerClient", client).ask("EVALSHA", self.sha, len(keys), *keys, *args)

        def reply() -> Any:
            with translated(client):
                try:
                    try:
                        return told()
                    except NoScriptError:
                        return self._run(client, keys, args)
                except ResponseError as error:
                    raise _translate(client, self, error) from error

        return reply

    def _run(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        run = run_lasting if self.name in LASTING else _run_command
        command = ("EVALSHA", self.sha, len(keys), *keys, *args)
        try:
            return run(client, command)
        except NoScriptError:  # the server was restarted or flushed its scripts
            client.script_load(self.source)
            return run(client, command)

    def run_each(self, client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
        """Run it for each call in one round trip, each atomic, not all together; return the replies in order.

        Raises the same as one call does, after all have run.
        """
        if not calls:
            return []
        with translated(client):
            replies = self._run_each(client, calls)
            forgotten = [call for call, reply in zip(calls, replies, strict=True) if isinstance(reply, NoScriptError)]
            if forgotten:  # the server was restarted or flushed its scripts; a forgotten one did nothing yet
                client.script_load(self.source)
                again = iter(self._run_each(client, forgotten))
                replies = [next(again) if isinstance(reply, NoScriptError) else reply for reply in replies]
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise _translate(client, self, reply) from reply
        return replies

    def _run_each(self, client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for keys, args in calls:
            pipeline.evalsha(self.sha, len(keys), *keys, *args)
        return pipeline.execute(raise_on_error=False)


def _run_command(client: redis.Redis, command: Sequence[Any]) -> Any:
    return client.execute_command(*command)  # type: ignore[no-untyped-call]


def _translate(client: redis.Redis, script: Script, error: ResponseError) -> StoreError:
    if "FENCED" in str(error):
        return FencedError(f"{script.name}: the lease is another's by now, or gone, or that run is no longer open")
    if is_forbidden(error):
        return forbidden(f"{script.name}: {place(client)}", error)
    if is_cluster(error):
        return in_own_words(error, client)
    return StoreError(f"{script.name}: {place(client)} refused it: {error}")


Command: TypeAlias = "Sequence[Argument]"


def batch(client: redis.Redis, commands: Iterable[Command], *, transaction: bool = False) -> list[Any]:
    """Run plain commands in one round trip, in a `transaction` at one instant; return their replies."""
    with translated(client):
        pipeline = client.pipeline(transaction=transaction)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        return pipeline.execute() if len(pipeline) else []


class Part:
    """A part of the store."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._scripts: dict[str, Script] = {}

    def _script(self, name: str) -> Script:
        if name not in self._scripts:
            self._scripts[name] = Script(name)
        return self._scripts[name]

    def _run(self, name: str, keys: Sequence[str], args: Sequence[Argument] = ()) -> Any:
        return self._script(name)(self._client, keys, args)

    def _run_each(self, name: str, calls: Sequence[Call]) -> list[Any]:
        return self._script(name).run_each(self._client, calls)

    def _batch(self, commands: Iterable[Command], *, transaction: bool = False) -> list[Any]:
        return batch(self._client, commands, transaction=transaction)

    def _now(self) -> float:
        """Return the time by the clock of Redis, seconds since 1970."""
        ((seconds, microseconds),) = self._batch([("TIME",)])
        return int(seconds) + int(microseconds) / MICROSECONDS

    @translating
    def _get(self, key: str) -> bytes | None:
        return cast("bytes | None", self._client.get(key))

    @translating
    def _mget(self, keys: Sequence[str]) -> list[bytes | None]:
        return cast("list[bytes | None]", self._client.mget(keys)) if keys else []

    @translating
    def _hget(self, key: str, field: str) -> bytes | None:
        return cast("bytes | None", self._client.hget(key, field))

    @translating
    def _hmget(self, key: str, fields: Sequence[str | bytes]) -> list[bytes | None]:
        return cast("list[bytes | None]", self._client.hmget(key, fields))

    @translating
    def _hgetall(self, key: str) -> dict[bytes, bytes]:
        return cast("dict[bytes, bytes]", self._client.hgetall(key))

    @translating
    def _lrange(self, key: str, first: int, last: int) -> list[bytes]:
        return cast("list[bytes]", self._client.lrange(key, first, last))

    def _list_from(self, key: str, first: int) -> list[bytes]:
        """Read a list to which others append, from `first` on to its end, in slices."""
        found: list[bytes] = []
        while True:
            slice_from = first + len(found)
            found += self._lrange(key, slice_from, slice_from + SLICE - 1)
            if len(found) < slice_from - first + SLICE:
                return found

    @translating
    def _zrange(self, key: str, first: int, last: int) -> list[bytes]:
        return cast("list[bytes]", self._client.zrange(key, first, last))
