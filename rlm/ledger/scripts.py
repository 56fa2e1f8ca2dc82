"""How the parts of the store use Redis: Lua scripts (one per operation), alone or in a pipeline, and plain commands.

Errors are translated into RLM's own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeAlias, cast

import msgspec
import redis
from redis.exceptions import NoScriptError, ResponseError

from rlm.core.endpoint import FAILING, LEASE_SLACK_SECONDS
from rlm.core.item import PRIORITY_STEP
from rlm.ledger.connect import LedgerClient, make_client, translated
from rlm.ledger.keys import Keys
from rlm.ledger.values import MICROSECONDS, RedisClock, name_unreadable, us_of
from rlm.settings import Settings

#: The most events that one script moves, so that it does not block Redis for long.
CHUNK = 200
#: Entries of any size are read so many at a time, and about so many bytes.
PAGE, PAGE_BYTES = 200, 1_000_000
#: The most entries of a long list that one command reads, which takes some milliseconds.
SLICE = 10_000

#: What is read of a key that has another type than RLM's; for HMGET, each field is missing. A whole hash, as of the run
#: or of who lives, is not replaced: with nothing there, workers would be stopped.
_NOTHING: Mapping[Any, Any] = {"ZCARD": 0, "LLEN": 0, "HGET": None, "HMGET": (None,)} | dict.fromkeys(
    ("ZRANGE", "ZREVRANGE", "LRANGE", "HKEYS"), ()
)

Argument: TypeAlias = str | bytes | int | float
Command: TypeAlias = "Sequence[Argument]"

_TITLE = re.compile(r"^--- ([a-z_]+)\(([^)]*)\)\n", re.MULTILINE)
_PARAMETER = re.compile(r"(\w+)(?:: (\w+))?")
#: What a parameter becomes in Lua, by its kind; one without a kind stays text.
_KINDS = {"": "ARGV[{}]", "number": "tonumber(ARGV[{}])", "data": "cmsgpack.unpack(ARGV[{}])"}


def _read_scripts() -> dict[str, tuple[dict[str, str], bytes]]:
    """Return the scripts of all files in `lua/` by name: the kind of each parameter, and the source.

    A script begins with `--- NAME(PARAMETERS)`. A parameter that is not text has its kind behind a colon: `number`, or
    `data` for anything with parts. The functions that a file has before any title are there for all scripts.
    """
    # What scripts and Python both count with.
    functions = f"local FAILING, PRIORITY_STEP, SLACK = {FAILING}, {PRIORITY_STEP}, {us_of(LEASE_SLACK_SECONDS)}\n"
    codes: dict[str, tuple[dict[str, str], str]] = {}
    for file in sorted(Path(__file__).with_name("lua").iterdir()):
        head, *parts = _TITLE.split(file.read_text())
        functions += head
        for name, signature, code in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            codes[name] = dict(_PARAMETER.findall(signature)), code
    scripts = {}
    for name, (parameters, code) in codes.items():
        values = (_KINDS[kind].format(place) for place, kind in enumerate(parameters.values(), start=1))
        arguments = f"local {', '.join(parameters)} = {', '.join(values)}\n"
        scripts[name] = parameters, f"{arguments}{functions}{code}".encode()
    return scripts


#: All are read at the start, so a running process keeps its scripts even if another version is installed.
SCRIPTS = _read_scripts()


class Script:
    """One script of `rlm/ledger/lua`, called with its arguments by name.

    Lists, mappings and structs reach it as MessagePack, of which Lua reads all but bytes. A call returns a number, a
    text, or an object, which a `ScriptReply` reads.
    """

    def __init__(self, name: str, source: bytes | None = None) -> None:
        self.name = name
        self._parameters, own = SCRIPTS[name]
        self.source = source or own
        self.sha = hashlib.sha1(self.source, usedforsecurity=False).hexdigest()

    def __call__(self, client: redis.Redis, **named: Any) -> Any:
        """Run it and return its reply.

        Raises:
            FencedError: a newer conductor holds the lease; nothing was written.
            StoreUnreachableError: Redis cannot be reached; whether it ran is not known.
            StoreError: Redis refused it.
        """
        ask, command = cast("LedgerClient", client).ask, self.command(named)
        with translated(client, self.name):
            try:
                return ask(*command)
            except NoScriptError:  # the server was restarted or flushed its scripts
                client.script_load(self.source)
                return ask(*command)

    def command(self, named: Mapping[str, Any]) -> Command:
        """Return the command. Raises TypeError unless exactly the script's parameters are given."""
        if named.keys() != self._parameters.keys():
            raise TypeError(f"{self.name} takes {', '.join(self._parameters)}, not {', '.join(named)}")
        kinds = self._parameters.items()
        values = (msgspec.msgpack.encode(named[name]) if kind == "data" else named[name] for name, kind in kinds)
        return ("EVALSHA", self.sha, 0, *values)


class ScriptReply(msgspec.Struct, frozen=True):
    """What a script answers, an object in MessagePack. Each subclass stands beside the method that calls its script."""

    @classmethod
    def read(cls, reply: bytes) -> Self:
        """Return the answer in a reply.

        Raises:
            ValueError: the reply has a field of another type, because a key holds what RLM does not write.
        """
        return msgspec.msgpack.decode(reply, type=cls, strict=False)


class Access:
    """What each part works with: the settings, a client for the Redis of `url`, its keys, and its clock.

    Creating it is cheap, because it connects at the first command.
    """

    def __init__(self, settings: Settings, url: str, answer_seconds: float = 5.0) -> None:
        """Wait `answer_seconds` for an answer."""
        self.settings = settings
        self.url = url
        self.keys = Keys(settings.redis.prefix, settings.queue)
        self.client = make_client(url, socket_timeout=answer_seconds)
        self.clock = RedisClock(settings.run.guard_seconds)

    def ask(self, *command: Argument) -> Any:
        """Run a plain command and return its reply."""
        with translated(self.client, " ".join(map(str, command[:2]))):
            return self.client.execute_command(*command)  # type: ignore[no-untyped-call]

    def batch(self, commands: Iterable[Command], *, transaction: bool = False) -> list[Any]:
        """Run plain commands in one round trip, or as a `transaction` at one instant; return their replies.

        What is read of a key of another type than RLM's is nothing, so that the rest goes on; the log names the key.
        """
        sent, pipeline = list(commands), self.client.pipeline(transaction=transaction)
        with translated(self.client):
            for command in sent:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            replies = pipeline.execute(raise_on_error=False)
            for place, (command, reply) in enumerate(zip(sent, replies, strict=True)):
                if isinstance(reply, ResponseError):
                    if command[0] not in _NOTHING or "WRONGTYPE" not in str(reply):
                        raise reply
                    name_unreadable(str(command[1]), b"another type", reply)
                    replies[place] = _NOTHING[command[0]] if command[0] != "HMGET" else [None] * (len(command) - 2)
            return replies

    def now_us(self) -> int:
        """Return the time by the clock of Redis, microseconds since 1970; records use it, whoever writes them."""
        return int(self.ask("TIME"))

    def now(self) -> float:
        """Return the same in seconds since 1970."""
        return self.now_us() / MICROSECONDS


class Part:
    """A part of what is kept in Redis, with its scripts. It raises a StoreError if Redis fails."""

    def __init__(self, store: Access) -> None:
        self._store, self._keys = store, store.keys
        self._ask, self._batch = store.ask, store.batch

    @property
    def _dedupe_ms(self) -> int:
        """How long a settled event is remembered to recognise duplicates, milliseconds."""
        return round(self._store.settings.queue.dedupe_seconds * 1000)

    _script = staticmethod(cache(Script))

    def _run(self, script: str, **named: Any) -> Any:
        return self._script(script)(self._store.client, prefix=self._keys.prefix, **named)

    def _run_each(self, name: str, calls: Sequence[Mapping[str, Any]]) -> list[Any]:
        """Run a script for each call in one round trip, each atomic by itself; return the replies in order."""
        script = self._script(name)
        with translated(self._store.client, name):
            self._store.client.script_load(script.source)
        return self._batch(script.command({"prefix": self._keys.prefix, **call}) for call in calls)

    def _pages(self, key: str, skip: int = 0, number: int = 1, *, from_end: bool = False) -> Iterator[list[bytes]]:
        """Yield a list of entries of any size page by page, `number` in the first, from its beginning or end."""
        while True:
            first, last = (-skip - number, -skip - 1) if from_end else (skip, skip + number - 1)
            page = self._ask("LRANGE", key, first, last)
            yield page[::-1] if from_end else page
            if len(page) < number:
                return
            skip += number
            number = max(1, min(PAGE, 4 * number, PAGE_BYTES * number // (sum(map(len, page)) or 1)))

    def _oldest(self, key: str, skip: int, most: int, number: int = 1) -> list[bytes]:
        """Return up to `most` entries of a list after the `skip` oldest, oldest first, about a megabyte at the most.

        `number` of them are small enough to be read at once.
        """
        entries: list[bytes] = []
        for page in self._pages(key, skip, number, from_end=True):
            entries += page
            if len(entries) >= most or sum(map(len, entries)) >= PAGE_BYTES:
                break
        return entries[:most]
