"""A primary, its replicas and three sentinels on loopback, with TLS and users, as a user would set them up for RLM."""

from __future__ import annotations

import gc
import re
import signal
import socket
import subprocess
import threading
import time
import warnings
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import redis

from tests.acceptance.redisusers import PAGE, PASSWORD, documented_users
from tests.acceptance.tlsserver import make_ca, make_certificate, program
from tests.wait import wait_until

SERVICE = "main"
#: The password of the unrestricted user: for replicas, sentinels and this test.
_ADMIN = "pw-of-the-operator"
#: Milliseconds of silence after which a primary counts as down; and seconds after which it refuses writes.
DOWN_MS = 2000
LAG_SECONDS = 2

_USERS = """
user default on >{admin} ~* &* +@all
user rlm {rlm}
"""
_SENTINEL_USERS = """
user default on >{admin} ~* &* +@all
{asker}
"""


def _asker() -> str:
    """Return the user of the sentinels from docs/security.md."""
    found = re.search(r"^user asker .*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert found
    return found[0].replace("PASSWORD", PASSWORD)


def free_port() -> int:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@dataclass
class Server:
    """One process of `redis-server`, a server or a sentinel."""

    port: int
    directory: Path
    arguments: list[str]
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.arguments, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    def signal(self, signum: int) -> None:
        assert self.process is not None
        self.process.send_signal(signum)

    def go_on(self) -> None:
        """Continue it after a stop, if it still exists."""
        if (process := self.process) is not None:
            with suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        if self.process is not None:
            self.go_on()
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass
class Sentinels:
    """The whole set-up in `directory`; a context manager. `switches` are the moments of `+switch-master`, monotonic."""

    directory: Path
    replicas: int = 2
    least: int = 1
    tls: bool = True
    switches: list[tuple[float, str, int]] = field(default_factory=list)
    options: dict[str, object] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self.stack = ExitStack()
        self.ended = threading.Event()
        self.binary = program("redis-server")
        self.directory.mkdir(parents=True, exist_ok=True)
        if self.tls:
            openssl = program("openssl")
            self.ca = make_ca(openssl, self.directory, "ca")
            self.key, self.certificate = make_certificate(
                openssl, self.directory, self.ca, "DNS:localhost,IP:127.0.0.1"
            )
        self.servers = [self.server(number) for number in range(1 + self.replicas)]
        for one in self.servers:
            one.start()
            self.stack.callback(one.kill)
        wait_until(self.in_line, timeout=20, message="the replicas are in line")
        self.sentinels = [self.sentinel(number) for number in range(3)]
        for one in self.sentinels:
            one.start()
            self.stack.callback(one.kill)
        wait_until(self.agreed, timeout=30, message="the sentinels know all")
        listener = threading.Thread(target=self.listen, daemon=True)
        listener.start()
        self.stack.callback(listener.join)
        self.stack.callback(self.ended.set)
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stack.close()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            gc.collect()  # of what Python's ssl left open: see test_failover.py

    # -- what RLM is told

    @property
    def url(self) -> str:
        """Return the value of `redis.url`."""
        places = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        scheme, more = ("rediss+sentinel", f"&ssl_ca_certs={self.ca}") if self.tls else ("redis+sentinel", "")
        login = f"sentinel_username=asker&sentinel_password={PASSWORD}"
        return f"{scheme}://rlm:{PASSWORD}@{places}/{SERVICE}/0?{login}{more}"

    # -- what is done to it

    def admin(self, port: int, seconds: float = 2.0) -> redis.Redis:
        """Return an unrestricted client of one server or sentinel."""
        tls = {"ssl": True, "ssl_ca_certs": str(self.ca)} if self.tls else {}
        return redis.Redis(
            port=port, password=_ADMIN, socket_timeout=seconds, socket_connect_timeout=seconds, retry=None, **tls
        )

    @property
    def primary(self) -> Server:
        """The server that most sentinels name."""
        named = [self.named(one) for one in self.sentinels]
        port = max(set(named), key=named.count)
        return next(one for one in self.servers if one.port == port)

    def failover(self) -> None:
        """Replace it by another primary, like an operator who follows docs/operations.md."""
        with self.admin(self.primary.port) as admin:
            admin.config_set("min-replicas-to-write", max(1, self.alive() - 1))
        with self.admin(self.sentinels[0].port) as admin:
            admin.execute_command("SENTINEL", "FAILOVER", SERVICE)

    def takes_writes(self) -> bool:
        """Return whether the primary accepts writes."""
        try:
            with self.admin(self.primary.port) as admin:
                return bool(admin.set("rlm:test", "1"))
        except redis.RedisError:
            return False

    def alive(self) -> int:
        return sum(one.process is not None for one in self.servers)

    def named(self, sentinel: Server) -> int:
        with self.admin(sentinel.port) as admin:
            return int(admin.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)[1])

    def listen(self) -> None:
        while not self.ended.is_set():
            with suppress(redis.RedisError), self.admin(self.sentinels[-1].port) as admin, admin.pubsub() as heard:
                heard.subscribe("+switch-master")
                while not self.ended.is_set():
                    if (told := heard.get_message(timeout=0.05)) and told["type"] == "message":
                        words = told["data"].decode().split()
                        self.switches.append((time.monotonic(), words[3], int(words[4])))

    # -- how it is set up

    def listening(self, port: int) -> list[str]:
        if not self.tls:
            return [f"port {port}"]
        return [
            "port 0",
            f"tls-port {port}",
            f"tls-cert-file {self.certificate}",
            f"tls-key-file {self.key}",
            f"tls-ca-cert-file {self.ca}",
            "tls-auth-clients no",
            "tls-replication yes",
        ]

    def server(self, number: int) -> Server:
        port, directory = free_port(), self.directory / f"server{number}"
        directory.mkdir()
        rules = " ".join(documented_users()["rlm"]).replace("PASSWORD", PASSWORD)
        (directory / "users.acl").write_text(_USERS.format(admin=_ADMIN, rlm=rules).lstrip())
        lines = [
            *self.listening(port),
            "bind 127.0.0.1",
            f"dir {directory}",
            "aclfile users.acl",
            f"masterauth {_ADMIN}",
            "appendonly yes",
            "appendfsync always",
            'save ""',
            "repl-diskless-sync yes",
            "repl-diskless-sync-delay 0",
            "repl-diskless-load on-empty-db",
            f"min-replicas-to-write {self.least}",
            f"min-replicas-max-lag {LAG_SECONDS}",
            *(f"{name} {value}" for name, value in self.options.items()),
            *([f"replicaof 127.0.0.1 {self.servers[0].port}"] if number else []),
        ]
        if not number:
            self.servers = []
        (directory / "redis.conf").write_text("\n".join(lines) + "\n")
        server = Server(port, directory, [self.binary, str(directory / "redis.conf")])
        self.servers.append(server)
        return server

    def sentinel(self, number: int) -> Server:
        port, directory = free_port(), self.directory / f"sentinel{number}"
        directory.mkdir()
        (directory / "users.acl").write_text(_SENTINEL_USERS.format(admin=_ADMIN, asker=_asker()).lstrip())
        lines = [
            *self.listening(port),
            "bind 127.0.0.1",
            f"dir {directory}",
            "aclfile users.acl",
            f"sentinel sentinel-pass {_ADMIN}",
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.servers[0].port} 2",
            f"sentinel auth-pass {SERVICE} {_ADMIN}",
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_MS}",
            f"sentinel failover-timeout {SERVICE} 10000",
            f"sentinel parallel-syncs {SERVICE} 2",
        ]
        (directory / "sentinel.conf").write_text("\n".join(lines) + "\n")
        return Server(port, directory, [self.binary, str(directory / "sentinel.conf"), "--sentinel"])

    def in_line(self) -> bool:
        try:
            with self.admin(self.servers[0].port) as admin:
                told = admin.info("replication")
        except redis.RedisError:
            return False
        states = [told[f"slave{number}"]["state"] for number in range(int(told.get("connected_slaves", 0)))]
        return states.count("online") == self.replicas

    def agreed(self) -> bool:
        try:
            for one in self.sentinels:
                with self.admin(one.port) as admin:
                    state = admin.sentinel_master(SERVICE)
                if (state["num-slaves"], state["num-other-sentinels"]) != (self.replicas, 2):
                    return False
        except redis.RedisError:
            return False
        return True
