"""A client that loses its connection at one of its calls."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import redis


class CutClient:
    """A client whose connection is cut at one of its calls: before the server gets it, or before the reply."""

    def __init__(self, client: Any, *, at: int | None = None, applied: bool = False) -> None:
        self.client = client
        self.at = at
        self.applied = applied
        self.calls = 0
        self.address = client.address

    def execute_command(self, *args: Any) -> Any:
        return self.call(self.client.execute_command, *args)

    def ask(self, *args: Any) -> Any:
        return self.call(self.client.execute_command, *args)

    def pipeline(self, **options: Any) -> Any:
        pipeline = self.client.pipeline(**options)
        pipeline.execute = partial(self.call, pipeline.execute)
        return pipeline

    def call(self, command: Callable[..., Any], *args: Any, **options: Any) -> Any:
        self.calls += 1
        if self.calls == self.at and not self.applied:
            raise redis.ConnectionError("cut before the server had it")
        reply = command(*args, **options)
        if self.calls == self.at:
            raise redis.ConnectionError("cut before the reply was back")
        return reply
