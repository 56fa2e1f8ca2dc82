"""Loads the Lua scripts, one a verb, and runs them, alone or in a pipeline, with errors in RLM's own words."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any, TypeAlias

from redis.exceptions import NoScriptError, ResponseError

from rlm.core.errors import FencedError, StoreError
from rlm.ledger.connect import forbidden, is_forbidden, place, translated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import redis

#: Events moved by one script at the most, so that no script holds Redis up.
CHUNK = 200

Argument: TypeAlias = str | bytes | int | float
Call: TypeAlias = "tuple[Script, Sequence[str], Sequence[Argument]]"


_FOLDER = resources.files("rlm.ledger") / "lua"
_INCLUDE = re.compile(rb"^ *-- include ([a-z_]+)\n", re.MULTILINE)
_HEADER = re.compile(rb"\A(--[^\n]*\n)+")


def read_source(name: str) -> bytes:
    """Return a script of `rlm/ledger/lua`. Each line `-- include NAME` is the code of `lua/include/NAME.lua`."""
    return _INCLUDE.sub(_included, (_FOLDER / f"{name}.lua").read_bytes())


@cache
def _include(name: str) -> bytes:
    return _HEADER.sub(b"", (_FOLDER / "include" / f"{name}.lua").read_bytes())


def _included(line: re.Match[bytes]) -> bytes:
    return _include(line[1].decode())


class Script:
    """One script of `rlm/ledger/lua`, named by its file."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.source = read_source(name)
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

    def _run(self, client: redis.Redis, keys: Sequence[str], args: Sequence[Argument]) -> Any:
        try:
            return client.evalsha(self.sha, len(keys), *keys, *args)
        except NoScriptError:  # the server was restarted or flushed its scripts
            client.script_load(self.source)
            return client.evalsha(self.sha, len(keys), *keys, *args)


def _reply(client: redis.Redis, script: Script, reply: Any) -> Any:
    if isinstance(reply, ResponseError):
        raise _translate(client, script, reply) from reply
    return reply


def _translate(client: redis.Redis, script: Script, error: ResponseError) -> StoreError:
    if "FENCED" in str(error):
        return FencedError(f"{script.name}: the lease is another's by now, or gone, or that run is no longer open")
    if is_forbidden(error):
        return forbidden(f"{script.name}: {place(client)}", error)
    return StoreError(f"{script.name}: {place(client)} refused it: {error}")


def run_many(client: redis.Redis, calls: Iterable[Call]) -> list[Any]:
    """Run several scripts in one round trip, each atomic, not all together; return their replies in order.

    Raises the same as one call does, after all have run.
    """
    calls = list(calls)
    if not calls:
        return []
    with translated(client):
        replies = _execute(client, calls)
        forgotten = [call for call, reply in zip(calls, replies, strict=True) if isinstance(reply, NoScriptError)]
        if forgotten:  # the server was restarted or flushed its scripts; a forgotten one did nothing yet
            for source in {script.source for script, _, _ in forgotten}:
                client.script_load(source)
            again = iter(_execute(client, forgotten))
            replies = [next(again) if isinstance(reply, NoScriptError) else reply for reply in replies]
    return [_reply(client, script, reply) for (script, _, _), reply in zip(calls, replies, strict=True)]


def _execute(client: redis.Redis, calls: Sequence[Call]) -> list[Any]:
    pipeline = client.pipeline(transaction=False)
    for script, keys, args in calls:
        pipeline.evalsha(script.sha, len(keys), *keys, *args)
    return pipeline.execute(raise_on_error=False)
