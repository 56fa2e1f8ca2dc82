"""How the parts of the store use Redis: Lua scripts (one per operation), alone or in a pipeline, and plain commands.

Errors are translated into RLM's own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import redis
from redis.exceptions import NoScriptError, ResponseError

from rlm.core.errors import StoreForbiddenError
from rlm.ledger.connect import MICROSECONDS, LedgerClient, text, translated
from rlm.ledger.trouble import in_own_words

if TYPE_CHECKING:
    from rlm.ledger.front import StoreFront

#: The most events that one script moves, so that it does not block Redis for long.
CHUNK = 200
#: The most entries of a long list that one command reads, which takes some milliseconds.
SLICE = 10_000

Argument: TypeAlias = str | bytes | int | float
#: The keys and arguments of a script.
Call: TypeAlias = "tuple[Sequence[str], Sequence[Argument]]"
Command: TypeAlias = "Sequence[Argument]"

_SECTION = re.compile(rb"^--- ([a-z_]+)\n", re.MULTILINE)
_HEADER = re.compile(rb"\A(--[^\n]*\n)+")
#: It begins with the previous line end, because searching for `^` would try every character of all scripts.
_INCLUDE = re.compile(rb"\n *-- include ([a-z_]+)(?=\n)")


def _read_sections() -> dict[str, bytes]:
    """Return the sections of all files in `lua/` by title; a title is a line `--- TITLE`."""
    found: dict[str, bytes] = {}
    for file in Path(__file__).with_name("lua").iterdir():
        _, *parts = _SECTION.split(file.read_bytes())
        found.update(zip(map(bytes.decode, parts[::2]), parts[1::2], strict=True))
    return found


#: All are read at the start, so a running process keeps its scripts even if another version is installed.
_SECTIONS = _read_sections()
_INCLUDED = {title.decode() for source in _SECTIONS.values() for title in _INCLUDE.findall(source)}
#: The scripts by name: the sections that are not included. A line `-- include NAME` is replaced by that section's code.
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
        with translated(client, self.name):
            return self._run(client, keys, args)

    def begin(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Argument]) -> Callable[[], Any]:
        """Send it; return a function that waits for its reply and must be called exactly once in any case.

        Both raise what a call raises.
        """
        with translated(client):
            told = cast("LedgerClient", client).ask("EVALSHA", self.sha, len(keys), *keys, *args)

        def reply() -> Any:
            with translated(client, self.name):
                try:
                    return told()
                except NoScriptError:
                    return self._run(client, keys, args)

        return reply

    def _run(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        command = ("EVALSHA", self.sha, len(keys), *keys, *args)
        run: Callable[..., Any] = client.execute_command
        try:
            return run(*command)
        except NoScriptError:  # the server was restarted or flushed its scripts
            client.script_load(self.source)
            return run(*command)

    def run_each(self, client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
        """Run it for each call in one round trip, each atomic by itself; return the replies in order.

        Raises the same errors as one call, after all have run.
        """
        if not calls:
            return []
        with translated(client):
            replies = self._run_each(client, calls)
            forgotten = [call for call, reply in zip(calls, replies, strict=True) if isinstance(reply, NoScriptError)]
            if forgotten:  # as in `_run`; a forgotten script did nothing yet
                client.script_load(self.source)
                again = iter(self._run_each(client, forgotten))
                replies = [next(again) if isinstance(reply, NoScriptError) else reply for reply in replies]
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise in_own_words(reply, client, self.name) from reply
        return replies

    def _run_each(self, client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
        pipeline = client.pipeline(transaction=False)
        for keys, args in calls:
            pipeline.evalsha(self.sha, len(keys), *keys, *args)
        return pipeline.execute(raise_on_error=False)


def ask(client: redis.Redis, *command: Argument) -> Any:
    """Run a plain command and return its reply."""
    with translated(client):
        return client.execute_command(*command)  # type: ignore[no-untyped-call]


def batch(client: redis.Redis, commands: Iterable[Command], *, transaction: bool = False) -> list[Any]:
    """Run plain commands in one round trip, or as a `transaction` at one instant; return their replies."""
    with translated(client):
        pipeline = client.pipeline(transaction=transaction)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        return pipeline.execute() if len(pipeline) else []


def names_of(client: redis.Redis, pattern: str) -> list[str]:
    """Return the keys of a pattern by SCAN or, if that is forbidden, by KEYS, which blocks all other clients."""
    try:
        with translated(client):
            found = list(client.scan_iter(match=pattern, count=1000))
    except StoreForbiddenError:
        found = ask(client, "KEYS", pattern)
    return sorted(set(map(text, found)))


class Part:
    """A part of the store."""

    def __init__(self, store: StoreFront) -> None:
        self._store = store
        self._client = store.client
        self._keys = store.keys

    @property
    def _dedupe_ms(self) -> int:
        """How long a settled event is remembered to recognise duplicates, milliseconds."""
        return round(self._store.settings.queue.dedupe_seconds * 1000)

    _script = staticmethod(cache(Script))

    def _run(self, name: str, keys: Sequence[str], args: Sequence[Argument] = ()) -> Any:
        return self._script(name)(self._client, keys, args)

    def _run_each(self, name: str, calls: Sequence[Call]) -> list[Any]:
        return self._script(name).run_each(self._client, calls)

    def _ask(self, *command: Argument) -> Any:
        return ask(self._client, *command)

    def _batch(self, commands: Iterable[Command], *, transaction: bool = False) -> list[Any]:
        return batch(self._client, commands, transaction=transaction)

    def _now(self) -> float:
        """Return the time by the clock of Redis, seconds since 1970."""
        seconds, microseconds = self._ask("TIME")
        return int(seconds) + int(microseconds) / MICROSECONDS

    def _mget(self, keys: Sequence[str]) -> list[bytes | None]:
        return cast("list[bytes | None]", self._ask("MGET", *keys)) if keys else []

    def _hgetall(self, key: str) -> dict[bytes, bytes]:
        return cast("dict[bytes, bytes]", self._ask("HGETALL", key))

    def _list_from(self, key: str, first: int) -> list[bytes]:
        """Read a growing list from `first` to its end, in slices."""
        found: list[bytes] = []
        while True:
            slice_from = first + len(found)
            found += self._ask("LRANGE", key, slice_from, slice_from + SLICE - 1)
            if len(found) < slice_from - first + SLICE:
                return found
