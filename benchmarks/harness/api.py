"""The strict API as its own process, so that it stamps arrivals however busy its clients are."""

from __future__ import annotations

import re
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self
from urllib.request import urlopen

import msgspec

from benchmarks.harness.children import running
from rlm.sandbox.mockapi import Arrival, EndpointSummary
from tests.wait import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_decode_arrival = msgspec.json.Decoder(Arrival).decode
_decode_summary = msgspec.json.Decoder(dict[str, EndpointSummary]).decode


#: Its URL in the first line that it prints; warnings may follow.
_URL = re.compile(r"http://\S+(?=\s)")


class ApiProcess:
    """`rlm mock-api` with the endpoints of `config`, on a free port; used like `rlm.sandbox.mockapi.MockApi`.

    Its arrivals are read from its log, at no cost for the server.
    """

    def __init__(self, config: Path) -> None:
        self.url = ""
        self._config = config
        self._log = config.with_name("arrivals.jsonl")
        self._said = config.with_name("mock-api.log")
        self._stack = ExitStack()

    def start(self) -> None:
        """Start it; returns once it listens."""
        options = ["--config", str(self._config), "--port", "0", "--log", str(self._log)]
        self._stack.enter_context(running([sys.executable, "-m", "rlm", "mock-api", *options], self._said))
        found = wait_until(lambda: _URL.search(self._said.read_text()), message="the API listens")
        self.url = found[0]

    def stop(self) -> None:
        self._stack.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def arrivals(self) -> list[Arrival]:
        """All arrivals so far, in order, each with its present or future status."""
        return [
            _decode_arrival(line) for line in self._log.read_bytes().splitlines(keepends=True) if line[-1:] == b"\n"
        ]

    def summary(self) -> dict[str, EndpointSummary]:
        """Return the summary of each endpoint, by name."""
        with urlopen(f"{self.url}/_mock/summary", timeout=10) as answer:
            return _decode_summary(answer.read())
