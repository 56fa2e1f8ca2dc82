"""FakeRedis in simulated time, reached without sockets: the real Lua scripts on fakeredis' real commands.

Only expensive parts are replaced: the wire format, the compilation of a script at each call, and checks of fakeredis
that our scripts pass in other tests anyway.
"""

from __future__ import annotations

import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

import msgspec
import redis
from fakeredis import FakeServer
from fakeredis import _msgs as msgs
from fakeredis._commands import Key, Signature
from fakeredis._core import CommandItem
from fakeredis._helpers import SimpleError
from fakeredis._socket import FakeSocket
from fakeredis._socket._resp import extract_command
from fakeredis.commands_mixins.scripting_mixin import LUA_MODULE, _convert_redis_arg
from fakeredis.model import Hash

from rlm.ledger.connect import SERVER_ID

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_INFO = Signature("info", "info", (), (bytes,))


#: The data that scripts read most, with its types; done here as in fakeredis, but without its wrapping.
_READS = {b"LINDEX": list, b"HGET": Hash}


def _read(value: Any, where: Any) -> Any:
    if type(value) is list:
        try:
            return value[int(where)]
        except IndexError:
            return False
    found = value.get(where if type(where) is bytes else _convert_redis_arg(where))
    return False if found is None else found


def _columns(packed: bytes) -> list[list[Any]]:
    """Read MessagePack as scripts are given it, lists of texts or numbers, as Lua has them."""
    return [[one.encode() if type(one) is str else one for one in column] for column in msgspec.msgpack.decode(packed)]


class _Shape:
    """The result of `Signature.apply` for a command with that many arguments, computed once."""

    def __init__(self, sig: Signature, args: Sequence[Any], version: Any) -> None:
        sig.check_arity(args, version)
        types = [*sig.fixed, *(sig.repeat[i % len(sig.repeat)] for i in range(len(args) - len(sig.fixed)))]
        creates = msgs.FLAG_DO_NOT_CREATE not in sig.flags
        self._plain = [(i, one.decode) for i, one in enumerate(types) if not isinstance(one, Key) and one is not bytes]
        self._keys = [
            (i, one.type_, one.type_ if creates and one.type_ is not None and one.type_ is not bytes else None)
            for i, one in enumerate(types)
            if isinstance(one, Key)
        ]
        self._missing = [
            (i, one.missing_return)
            for i, one in enumerate(types)
            if isinstance(one, Key) and one.missing_return is not Key.UNSPECIFIED
        ]

    def apply(self, args: Sequence[Any], db: Any) -> tuple[Any, Any]:
        """Return the arguments as the command takes them, and its keys; or a reply, and None."""
        for i, missing in self._missing:
            if db.get(args[i]) is None:
                return missing, None
        if not self._plain and not self._keys:
            return args, ()
        args = list(args)
        for i, decode in self._plain:
            args[i] = decode(args[i])
        items = []
        for i, type_, default in self._keys:
            item = db.get(args[i])
            if item is not None and type_ is not None and type(item.value) is not type_:
                raise SimpleError(msgs.WRONGTYPE_MSG)
            args[i] = CommandItem(args[i], db, item, default=default() if item is None and default else None)
            items.append(args[i])
        return args, items


class Socket(FakeSocket):
    """The only connection of a simulated server; `tell` is called for each PUBLISH."""

    def __init__(self, server: FakeServer) -> None:
        super().__init__(server, 0, client_class=redis.Redis)
        self.run_id = "0" * 40
        self.clock: Callable[[], float] = lambda: 0.0
        self.tell: Callable[[str], None] = lambda _channel: None
        self._known: dict[Any, tuple[Any, Signature]] = {}
        self._compiled: dict[bytes, Any] = {}
        self._shapes: dict[tuple[str, int], _Shape] = {}
        runtime = self._get_server_runtime(server)
        give = runtime.eval(
            "function(sha1hex, unpack, pack) redis.sha1hex, cmsgpack = sha1hex, {unpack = unpack, pack = pack} end"
        )
        server._lua_expected_globals.add(b"cmsgpack")
        give(
            lambda text: hashlib.sha1(text, usedforsecurity=False).hexdigest().encode(),
            lambda packed: runtime.table_from(_columns(packed), recursive=True),
            lambda numbers: msgspec.msgpack.encode([*map(int, numbers.values())]),
        )

    # -- commands

    def run(self, fields: list[bytes]) -> Any:
        """Run one command and return its reply; an error is returned, not raised."""
        name, args = extract_command(fields)
        try:
            found = self._known.get(name) or self._find(name)
            self._db.time = self.clock()
            reply = self._run_command(*found, args, from_script=False)
        except SimpleError as error:
            reply = error
        return self._decode_result(reply)

    def _find(self, name: str) -> tuple[Any, Signature]:
        found = self._known[name] = self._name_to_func(name)
        return found

    def _name_to_func(self, cmd_name: str) -> tuple[Any, Signature]:
        if cmd_name == "info":
            return self.info, _INFO
        return super()._name_to_func(cmd_name)

    def info(self, *_sections: bytes) -> bytes:
        """INFO: scripts read the server's process id there, the conductor whether it is fit."""
        facts = {
            "redis_version": "7.2.4",
            "run_id": self.run_id,
            "role": "master",
            "loading": 0,
            "cluster_enabled": 0,
            "maxmemory": 0,
            "maxmemory_policy": "noeviction",
            "aof_enabled": 1,
            "aof_last_write_status": "ok",
        }
        return "".join(f"{name}:{fact}\r\n" for name, fact in facts.items()).encode()

    def time(self) -> list[bytes]:
        """TIME, by the simulated clock of Redis."""
        now_us = round(self.clock() * 1_000_000)
        return [b"%d" % (now_us // 1_000_000), b"%d" % (now_us % 1_000_000)]

    def publish(self, channel: bytes, _message: bytes) -> int:
        """PUBLISH: the simulation carries the message."""
        self.tell(channel.decode())
        return 1

    def _run_command(self, func: Any, sig: Signature, args: list[Any], from_script: bool) -> Any:
        if from_script and msgs.FLAG_NO_SCRIPT in sig.flags:
            return SimpleError(msgs.COMMAND_IN_SCRIPT_MSG)
        items: Sequence[Any] = ()
        try:
            shape = self._shapes.get((sig.name, len(args)))
            if shape is None:
                shape = self._shapes[sig.name, len(args)] = _Shape(sig, args, self.version)
            args, items = shape.apply(args, self._db)
            if items is None:
                return args
            reply = func(*args)
            if type(reply) is float:
                reply = b"%.17g" % reply
            elif type(reply) is dict:
                reply = [part for pair in reply.items() for part in pair]
            elif type(reply) is list and any(type(one) in (float, list, tuple) for one in reply):
                reply = [b"%.17g" % one if type(one) is float else one for one in reply]
        except SimpleError as error:
            reply = error
        for item in items:
            item.writeback(remove_empty_val=msgs.FLAG_LEAVE_EMPTY_VAL not in sig.flags)
        return reply

    # -- scripts

    def eval(self, script: bytes, numkeys: int, *keys_and_args: bytes) -> Any:
        """EVAL and, through it, EVALSHA: compiled once, and without collecting Lua's garbage each time."""
        runtime = self._get_server_runtime(self._server)
        server: Any = self._server
        server._lua_current_socket[0] = self
        function = self._compiled.get(script)
        if function is None:
            function = self._compiled[script] = runtime.compile(script)
        server._lua_set_keys_argv(
            runtime.table_from(keys_and_args[:numkeys]), runtime.table_from(keys_and_args[numkeys:])
        )
        try:
            return self._convert_lua_result(function(), nested=False)
        except LUA_MODULE.LuaError as error:
            if "attempt to" in str(error):
                raise  # it uses what is not there; what Redis refuses it is another matter
            raise SimpleError(f"ERR {error}") from error

    def _lua_redis_call(self, runtime: Any, _expected: Any, op: bytes, *args: Any) -> Any:
        if op in _READS:
            item = self._db.get(args[0])
            if item is None:
                return False
            if type(item.value) is _READS[op]:
                return _read(item.value, args[1])
        found = self._known.get(op)
        if found is None:
            name, rest = extract_command([op, *map(_convert_redis_arg, args)])
            if len(rest) != len(args):  # a name of two words
                return self._convert_redis_result(runtime, self._run_command(*self._find(name), rest, True))
            found = self._known[op] = self._find(name)
        plain = [arg if type(arg) is bytes else _convert_redis_arg(arg) for arg in args]
        reply = self._run_command(*found, plain, True)
        if type(reply) is bytes or type(reply) is int:
            return reply
        return self._convert_redis_result(runtime, reply)


class Server:
    """The simulated Redis, one per process: `reset` empties it for the next simulation."""

    def __init__(self) -> None:
        self._server = FakeServer(server_type="valkey", version=(7,))
        self._server.dbs[0].notify_watch = lambda _key: None  # nobody watches or blocks here
        self.socket = Socket(self._server)

    def reset(self, clock: Callable[[], float], tell: Callable[[str], None], run_id: str) -> None:
        """Empty it and set its clock (seconds since 1970); it is a new process."""
        self._server.dbs[0].clear()
        self._server.script_cache.clear()
        self.socket.clock, self.socket.tell, self.socket.run_id = clock, tell, run_id

    def restart(self, run_id: str, *, empty: bool) -> None:
        """Become a new process, with its data or without: the case for the data-loss detection."""
        self._server.script_cache.clear()
        self.socket.run_id = run_id
        if empty:
            self._server.dbs[0].clear()

    def apply(self, commands: Sequence[list[bytes]]) -> list[Any]:
        """Run commands at this instant; the replies include errors."""
        return [self.socket.run(fields) for fields in commands]


class Client(redis.Redis):
    """RLM's client, but its commands go to `ask` instead of a connection: a list of commands, a list of replies."""

    def __init__(self, ask: Callable[[Sequence[list[bytes]], bool], list[Any]], server_id: Callable[[], str]) -> None:
        super().__init__(host="simulated", protocol=2)
        self._ask = ask
        self.server_id = server_id
        self._encode = self.get_encoder().encode
        self.response_callbacks["SMEMBERS"] = sorted  # the order of a set depends on the process's hash seed

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Run one command."""
        (reply,) = self._ask([self.encoded(args)], True)
        return self.understood(args, options, reply, raising=True)

    def ask(self, *args: Any) -> Callable[[], Any]:
        """Return a function that runs one command: nothing else happens meanwhile."""
        return partial(self.execute_command, *args)

    def pipeline(self, transaction: bool = True, shard_hint: Any = None) -> Pipeline:
        """Return a pipeline."""
        return Pipeline(self, transaction)

    def encoded(self, args: Sequence[Any]) -> list[bytes]:
        """Encode a command as fields."""
        name = args[0].encode().split() if " " in args[0] else [args[0].encode()]
        encode = self._encode
        if args[-1] is SERVER_ID:
            args = (*args[:-1], self.server_id())
        return name + [
            arg if type(arg) is bytes else arg.encode() if type(arg) is str else encode(arg) for arg in args[1:]
        ]

    def understood(self, args: Sequence[Any], options: dict[str, Any], reply: Any, *, raising: bool) -> Any:
        """Read a reply like redis-py."""
        if isinstance(reply, Exception):
            if raising:
                raise reply
            return reply
        options.pop("keys", None)
        callback = self.response_callbacks.get(args[0])
        return callback(reply, **options) if callback else reply

    def close(self) -> None:
        """Do nothing."""


class Pipeline(redis.client.Pipeline):
    """A pipeline of such a client: all of its commands are sent together."""

    def __init__(self, client: Client, transaction: bool) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, None)
        self._client = client

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Run the queued commands; like redis-py, ask nothing if there are none."""
        if not self.command_stack:
            return []
        stack, self.command_stack = self.command_stack, []
        replies = self._client._ask([self._client.encoded(args) for args, _ in stack], self.transaction)
        return [
            self._client.understood(args, options, reply, raising=raise_on_error)
            for (args, options), reply in zip(stack, replies, strict=True)
        ]
