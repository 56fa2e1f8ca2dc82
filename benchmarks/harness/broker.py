"""A private Redis: the bundled server, on a free port of loopback."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

import redis

from benchmarks.harness.children import running
from rlm.ledger.embedded.process import binary_path
from tests.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def private_redis(directory: Path, appendfsync: str = "") -> Iterator[str]:
    """Run a server; yield its URL. It writes nothing to its disk, unless it is said how an append-only file is kept."""
    port = free_port()
    kept = ["--appendonly", "yes", "--appendfsync", appendfsync] if appendfsync else ["--appendonly", "no"]
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", *kept, "--dir", str(directory)]
    with running([str(binary_path()), *options], directory / "redis.log"):
        with redis.Redis(port=port) as client:
            wait_until(lambda: _answers(client), message="the private Redis answers")
        yield f"redis://127.0.0.1:{port}/0"


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
