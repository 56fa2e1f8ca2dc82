"""How the parts of the store ask Redis: Lua scripts, one a verb, alone or in a pipeline, plain commands, and reads.

Errors come in RLM's own words.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, cast

import redis
from redis.exceptions import NoScriptError, ResponseError

from rlm.core.errors import StoreForbiddenError
from rlm.ledger.client import LASTING, LedgerClient, run_lasting
from rlm.ledger.connect import MICROSECONDS, text, translated
from rlm.ledger.trouble import in_own_words

if TYPE_CHECKING:
    from rlm.ledger.front import StoreFront

#: Events moved by one script at the most, so that no script holds Redis up.
CHUNK = 200
#: Entries of a list that may be very long, read by one command at the most: some milliseconds.
SLICE = 10_000

Argument: TypeAlias = str | bytes | int | float
#: The keys and arguments of a script.
Call: TypeAlias = "tuple[Sequence[str], Sequence[Argument]]"
Command: TypeAlias = "Sequence[Argument]"

_SECTION = re.compile(rb"^--- ([a-z_]+)\n", re.MULTILINE)
_HEADER = re.compile(rb"\A(--[^\n]*\n)+")
#: It begins with the end of the line before: a search for `^` would try each character of all scripts, at each start.
_INCLUDE = re.compile(rb"\n *-- include ([a-z_]+)(?=\n)")


def _read_sections() -> dict[str, bytes]:
    """Read the sections of all files of `lua/` by their titles, which are lines `--- TITLE`."""
    found: dict[str, bytes] = {}
    for file in Path(__file__).with_name("lua").iterdir():
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
        with translated(client, self.name):
            return self._run(client, keys, args)

    def begin(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Argument]) -> Callable[[], Any]:
        """Send it off; return what waits for its reply, which must be called once, whatever happens meanwhile.

        Both raise what a call raises. It must be none of those that wait for replicas.
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
        run: Callable[..., Any] = partial(run_lasting, client) if self.name in LASTING else client.execute_command
        try:
            return run(*command)
        except NoScriptError:  # the server was restarted or flushed its scripts
            client.script_load(self.source)
            return run(*command)

    def run_each(self, client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
        """Run it for each call in one round trip, each atomic, not all together; return the replies in order.

        Raises the same as one call does, after all have run.
        """
        if not calls:
            return []
        with translated(client):
            replies = self._run_each(client, calls)
            forgotten = [call for call, reply in zip(calls, replies, strict=True) if isinstance(reply, NoScriptError)]
            if forgotten:  # as above; a forgotten one did nothing yet
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
    """Run a plain command; return its reply."""
    with translated(client):
        return client.execute_command(*command)  # type: ignore[no-untyped-call]


def batch(client: redis.Redis, commands: Iterable[Command], *, transaction: bool = False) -> list[Any]:
    """Run plain commands in one round trip, in a `transaction` at one instant; return their replies."""
    with translated(client):
        pipeline = client.pipeline(transaction=transaction)
        for command in commands:
            pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
        return pipeline.execute() if len(pipeline) else []


def names_of(client: redis.Redis, pattern: str) -> list[str]:
    """Find the keys of a pattern by SCAN; if the user may not use that, by KEYS, which blocks everybody else."""
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
        """How long a settled event is remembered, to recognise duplicates, milliseconds."""
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
        """Read a list to which others append, from `first` on to its end, in slices."""
        found: list[bytes] = []
        while True:
            slice_from = first + len(found)
            found += self._ask("LRANGE", key, slice_from, slice_from + SLICE - 1)
            if len(found) < slice_from - first + SLICE:
                return found
