"""A strict HTTP API of its own, without any code of RLM: it counts by its own clock, and logs every call.

`python tests/hosts/api.py ADDRESSES PORT LOG AMOUNT PERIOD TAKES`: each path is an endpoint. It answers 429 to
calls beyond AMOUNT in any PERIOD seconds, counting refused ones too; every other answer takes TAKES seconds. A call
is written to LOG when it was answered or given up.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import defaultdict, deque
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO


@dataclass
class SeenCall:
    """One call as this API saw it; times are seconds since 1970. `ended` is when it was answered or given up."""

    endpoint: str
    key: str
    host: str
    event: str
    attempt: int
    run: str
    at: float
    ended: float = 0.0
    status: int = 0
    #: Whether the caller had gone when the answer was due.
    gone: bool = False


class StrictApi:
    def __init__(self, log: IO[str], amount: int, period: float, takes: float) -> None:
        self.log, self.amount, self.period, self.takes = log, amount, period, takes
        self.arrivals: defaultdict[str, deque[float]] = defaultdict(deque)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host = writer.get_extra_info("peername")[0]
        try:
            while True:
                await self.answer(reader, writer, host)
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError, OSError):
            pass
        finally:
            writer.close()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: str) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        call = _read(head[0].split()[1].strip("/"), headers, body, host)
        too_many = self.count(call)
        try:
            if not too_many:
                await asyncio.sleep(self.takes)
            call.gone = writer.is_closing() or reader.at_eof()
            call.status = 429 if too_many else 200
            status = "429 Too Many Requests" if too_many else "200 OK"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\n{{}}".encode())
            await writer.drain()
        finally:
            call.ended = time.time()
            self.log.write(json.dumps(asdict(call)) + "\n")

    def count(self, call: SeenCall) -> bool:
        recent = self.arrivals[call.endpoint]
        while recent and recent[0] <= call.at - self.period:
            recent.popleft()
        recent.append(call.at)
        return len(recent) > self.amount


def _read(endpoint: str, headers: dict[str, str], body: bytes, host: str) -> SeenCall:
    content = json.loads(body)
    return SeenCall(
        endpoint,
        headers["idempotency-key"],
        host,
        content["event_id"],
        content["attempt"],
        content["run_id"],
        time.time(),
    )


async def serve(api: StrictApi, addresses: list[str], port: int) -> None:
    server = await asyncio.start_server(api.serve, addresses, port, backlog=1000)
    async with server:
        await server.serve_forever()


def main() -> None:
    addresses, port, log, amount, period, takes = sys.argv[1:]
    with Path(log).open("a", buffering=1) as file:
        api = StrictApi(file, int(amount), float(period), float(takes))
        asyncio.run(serve(api, addresses.split(","), int(port)))


if __name__ == "__main__":
    main()
