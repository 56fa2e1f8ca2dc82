"""A strict API, in a process of its own so that it stamps arrivals however busy its callers are.

In no period, wherever it begins, does it admit more calls to an endpoint than the limit, without any tolerance; what it
refuses it answers 429 with `Retry-After`. `GET /` returns the number of answered events, `GET /calls` all calls.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple
from urllib.request import urlopen

from benchmarks.harness.processes import free_port, running, wait_until
from benchmarks.harness.work import Work


class Call(NamedTuple):
    """A call as the server saw it: when it came, in seconds since 1970, and whether it was admitted."""

    at: float
    endpoint: str
    event_id: str
    admitted: bool


class Api(NamedTuple):
    """The running API, from outside."""

    url: str
    pid: int

    def answered(self) -> int:
        """Return how many events have their good answer; -1 if the API does not answer."""
        with suppress(OSError), urlopen(self.url, timeout=10) as answer:
            return json.load(answer)
        return -1

    def calls(self) -> list[Call]:
        """Return all calls, in order."""
        with urlopen(f"{self.url}/calls", timeout=30) as answer:
            return [Call(*call) for call in json.load(answer)]

    def await_events(self, number: int, seconds: float) -> None:
        """Return once so many events have their good answer, or `seconds` are over."""
        deadline = time.monotonic() + seconds
        while self.answered() < number and time.monotonic() < deadline:
            time.sleep(0.1)  # seldom, because each look takes from the processors that all share


@contextmanager
def serving(work: Work, directory: Path) -> Iterator[Api]:
    """Run the API for the endpoints of `work`."""
    port, rules = free_port(), directory / "api.json"
    rules.write_text(json.dumps({"amount": work.amount, "period": work.period, "takes": work.takes()}))
    command = [sys.executable, "-m", "benchmarks.harness.api", str(port), str(rules)]
    with running(command, directory / "api.log") as process:
        api = Api(f"http://127.0.0.1:{port}", process.pid)
        wait_until(lambda: api.answered() >= 0, 20, "the API answers")
        yield api


# -- the process


class Server:
    """The ASGI application."""

    def __init__(self, rules: dict) -> None:
        self._amount, self._period = rules["amount"], rules["period"]
        self._takes: dict[str, float] = rules["takes"]
        self._admitted = {name: deque(maxlen=self._amount) for name in self._takes}
        self._calls: list[Call] = []
        self._answered: set[str] = set()

    async def __call__(self, scope, receive, send) -> None:
        while (await receive()).get("more_body"):
            pass
        if scope["method"] == "POST":
            headers = dict(scope["headers"])
            await self._call(scope["path"][1:], headers[b"idempotency-key"].decode(), send)
        else:
            await _answer(send, 200, self._calls if scope["path"] == "/calls" else len(self._answered))

    async def _call(self, endpoint: str, event_id: str, send) -> None:
        now, admitted = time.time(), self._admitted[endpoint]
        opens_at = admitted[0] + self._period if len(admitted) == self._amount else now
        self._calls.append(Call(now, endpoint, event_id, opens_at <= now))
        if opens_at > now:
            await _answer(send, 429, {"error": "full"}, (b"retry-after", b"%d" % max(1, math.ceil(opens_at - now))))
            return
        admitted.append(now)
        await asyncio.sleep(self._takes[endpoint])
        await _answer(send, 200, {"ok": True})
        self._answered.add(event_id)


async def _answer(send, status: int, document: object, *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps(document).encode()
    head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


if __name__ == "__main__":
    import uvicorn

    server = Server(json.loads(Path(sys.argv[2]).read_text()))
    options = {"http": "httptools", "lifespan": "off", "access_log": False, "log_level": "warning"}
    uvicorn.run(server, port=int(sys.argv[1]), timeout_keep_alive=3600, **options)
