"""A real redis-server with TLS on loopback, with a certificate of a CA made for it."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import redis

from rlm.ledger.connect import make_client
from tests.wait import wait_until


@dataclass(frozen=True)
class TlsServer:
    """Its TLS address, the certificate of its CA, and its Unix socket, on which everything is allowed."""

    port: int
    ca: Path
    admin_url: str

    def url(self, login: str = "", host: str = "localhost", ca: Path | None = None) -> str:
        """Return its URL with a login `user:password@` and the CA to trust."""
        return f"rediss://{login}{host}:{self.port}/0?ssl_ca_certs={ca or self.ca}"


@contextmanager
def tls_server(directory: Path) -> Iterator[TlsServer]:
    """Run it in `directory`. The bundled Valkey is built without TLS, so this is Debian's `redis-server`."""
    binary, openssl = program("redis-server"), program("openssl")
    directory.mkdir(parents=True, exist_ok=True)
    ca = make_ca(openssl, directory, "ca")
    key, certificate = make_certificate(openssl, directory, ca)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = directory / "s"
    options = {
        "port": 0,
        "tls-port": port,
        "bind": "127.0.0.1",
        "unixsocket": path,
        "dir": directory,
        "tls-cert-file": certificate,
        "tls-key-file": key,
        "tls-ca-cert-file": ca,
        "tls-auth-clients": "no",
        "appendonly": "yes",
        "appendfsync": "always",
        "save": "",
        "maxmemory-policy": "noeviction",
        "logfile": directory / "redis.log",
    }
    words = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    server = subprocess.Popen([binary, *words], stdin=subprocess.DEVNULL, start_new_session=True)
    try:
        admin_url = f"unix://{path}"
        with make_client(admin_url) as admin:
            wait_until(lambda: _answers(admin), message="the server answers")
        yield TlsServer(port, ca, admin_url)
    finally:
        server.terminate()
        server.wait(10)


def make_ca(openssl: str, directory: Path, name: str) -> Path:
    """Make a CA; return its certificate, beside which its key is."""
    certificate, key = directory / f"{name}.pem", directory / f"{name}.key"
    _run(openssl, "req", "-x509", *_NEW_KEY, "-keyout", key, "-out", certificate, "-subj", f"/CN={name}", "-days", "2")
    return certificate


_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def make_certificate(openssl: str, directory: Path, ca: Path, names: str = "DNS:localhost") -> tuple[Path, Path]:
    """Make a certificate for exactly these names, signed by `ca`; return its key and the certificate."""
    key, request, certificate = (directory / f"server.{what}" for what in ("key", "csr", "pem"))
    extensions = directory / "names"
    extensions.write_text(f"subjectAltName={names}")
    _run(openssl, "req", *_NEW_KEY, "-keyout", key, "-out", request, "-subj", "/CN=localhost")
    signing = ("-CA", ca, "-CAkey", ca.with_suffix(".key"), "-CAcreateserial", "-days", "2", "-extfile", extensions)
    _run(openssl, "x509", "-req", "-in", request, "-out", certificate, *signing)
    return key, certificate


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True, capture_output=True, timeout=30)


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None and os.environ.get("CI"):
        pytest.fail(f"{name} is not installed, and CI tests TLS with it: apt-get install redis-server openssl")
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False
