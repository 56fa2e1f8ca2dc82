"""A TCP proxy between the workers and the API: the effects of a network and a bad server on requests and answers."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field
from enum import StrEnum
from urllib.parse import urlsplit

from tests.faults.proxy import Proxy, first_of

#: Seconds between an interim answer and the final one.
INTERIM_SECONDS = 0.15
_INTERIM = (b"HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n", b"HTTP/1.1 102 Processing\r\n\r\n")


class Answer(StrEnum):
    """What happens to an answer, or to its request."""

    WHOLE = "whole"
    #: The request is accepted but not forwarded; nobody answers.
    NEVER = "never"
    #: The API has read the request; its answer is not forwarded, and the connection is reset.
    RESET = "reset after the body was read"
    #: Half of the answer comes, then the connection ends.
    HALF = "half"
    #: An interim answer comes at once, the final one `INTERIM_SECONDS` later.
    INTERIM = "interim"
    #: A kept connection is reset just when the next request comes.
    STALE = "stale"


@dataclass
class ApiProxy(Proxy):
    """Forwards HTTP requests one by one; its faults apply to every request from when they are set.

    `there` and `back` are the longest delays of requests and answers, seconds: that of each call is drawn evenly.
    """

    url: str
    seed: int = 0
    answer: Answer = Answer.WHOLE
    there: float = 0.0
    back: float = 0.0
    requests: int = 0
    random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        super().__init__(urlsplit(self.url).port or 80)
        self.random = random.Random(self.seed)

    @property
    def front(self) -> str:
        """Return the address of the API for workers."""
        return f"http://127.0.0.1:{self.port}"

    async def carry(self, reader, writer, up_reader, up_writer) -> None:
        """Carry the requests of one connection, until either side ends it."""
        used = False
        while head := await _head(reader):
            self.requests += 1
            answer = self.answer
            if answer is Answer.STALE and used:
                return
            used = True
            request = head + await reader.readexactly(_length(head))
            if answer is Answer.NEVER:
                await first_of(reader.read(1))  # the client hangs up
                return
            await asyncio.sleep(self.random.uniform(0, self.there))
            await self.write(up_writer, request)
            reply = await _head(up_reader)
            reply += await up_reader.readexactly(_length(reply))
            await asyncio.sleep(self.random.uniform(0, self.back))
            if answer is Answer.INTERIM:
                await self.write(writer, self.random.choice(_INTERIM))
                await asyncio.sleep(INTERIM_SECONDS)
            if answer is Answer.RESET or not reply:
                return
            await self.write(writer, reply[: len(reply) // 2] if answer is Answer.HALF else reply)
            if answer is Answer.HALF:
                writer.write_eof()
                await first_of(reader.read(1))
                return


async def _head(reader) -> bytes:
    try:
        return await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return b""


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0
