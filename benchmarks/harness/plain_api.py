"""A plain API that answers at once and limits nothing, in its own process.

It counts its callers: `GET /` returns the number of calls, that of events, when the first call came, and when the last
new event came, in monotonic seconds, which all processes of a machine share.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple
from urllib.request import urlopen

from benchmarks.harness.children import ROOT, free_port, running
from tests.wait import wait_until

if TYPE_CHECKING:
    from pathlib import Path

_OPTIONS = ["--no-access-log", "--log-level", "warning", "--lifespan", "off", "--http", "httptools"]
_JSON = [(b"content-type", b"application/json")]


class Seen(NamedTuple):
    """The callers so far."""

    calls: int = 0
    events: int = 0
    first_at: float = 0.0
    last_at: float = 0.0


class PlainApi:
    """The API, used like `benchmarks.harness.api.ApiProcess`."""

    def __init__(self, directory: Path) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        self.pid = 0
        self._log = directory / "plain-api.log"
        self._stack = ExitStack()

    def start(self) -> None:
        port = self.url.rpartition(":")[2]
        command = [sys.executable, "-m", "uvicorn", "benchmarks.harness.plain_api:app", "--port", port, *_OPTIONS]
        self.pid = self._stack.enter_context(running(command, self._log, cwd=ROOT)).pid
        wait_until(self._answers, message="the API answers")

    def stop(self) -> None:
        self._stack.close()

    def _answers(self) -> bool:
        try:
            return self.seen() is not None
        except OSError:
            return False

    def seen(self) -> Seen:
        with urlopen(self.url, timeout=10) as answer:
            return Seen(*json.load(answer))

    def await_events(self, number: int, timeout: float) -> Seen:
        """Wait until `number` events have come; it asks seldom, because that uses the shared processors."""
        deadline = time.monotonic() + timeout
        while (seen := self.seen()).events < number:
            assert time.monotonic() < deadline, f"{seen.events} of {number} events came within {timeout:g} s"
            time.sleep(0.05)
        return seen


_events: set[bytes] = set()
_seen = Seen()


async def app(scope, receive, send) -> None:
    global _seen  # noqa: PLW0603 - the state of a program of one file
    while (await receive()).get("more_body"):
        pass
    answer = b'{"ok": true}'
    if scope["method"] == "GET":
        answer = json.dumps(_seen).encode()
    else:
        now, before = time.monotonic(), len(_events)
        _events.add(dict(scope["headers"])[b"idempotency-key"])
        last_at = now if len(_events) > before else _seen.last_at
        _seen = Seen(_seen.calls + 1, len(_events), _seen.first_at or now, last_at)
    headers = [*_JSON, (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})
