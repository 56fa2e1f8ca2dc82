"""A private Redis for the rivals: the bundled server, on a free port of loopback, writing nothing to its disk."""

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
def private_redis(directory: Path) -> Iterator[str]:
    """Run a server that is quicker than RLM's, which is safe on its disk at every write; yield its URL."""
    port = _free_port()
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", str(directory)]
    with running([str(binary_path()), *options], directory / "redis.log"):
        with redis.Redis(port=port) as client:
            wait_until(lambda: _answers(client), message="the rivals' Redis answers")
        yield f"redis://127.0.0.1:{port}/0"


def _answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.ConnectionError:
        return False


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]
