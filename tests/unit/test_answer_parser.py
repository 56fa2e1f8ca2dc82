"""What is a valid answer of HTTP/1.1, and whether its connection may serve another call."""

from __future__ import annotations

import pytest

from rlm.delivery.http import MAX_ANSWER_BYTES, MAX_HEAD_BYTES, Answer, BrokenAnswerError
from tests.each import each

HEAD = b"HTTP/1.1 200 OK\r\n"
EMPTY = HEAD + b"Content-Length: 0\r\n\r\n"
REFUSAL = b"HTTP/1.1 422 No\r\nRetry-After: 7\r\nContent-Length: 7\r\n\r\nbecause"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n4;a=b\r\nwell\r\n0\r\nRetry-After: 9\r\n\r\n"
HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nRetry-After: 5\r\nContent-Length: 40\r\n\r\n"
UNTIL_CLOSE = HEAD + b"\r\nas long as it takes"


def read(*parts):
    """Feed an answer like a connection: until it is complete, cut off, or invalid."""
    answer = Answer()
    for part in parts:
        if answer.whole or not answer.room:
            break
        answer.feed(part)
    return answer


def pour(answer, endless):
    """Feed the same data while it is accepted; return how many bytes that took."""
    fed = 0
    while answer.room:
        answer.feed(endless[: answer.room])
        fed += len(endless)
    return fed


def facts(answer):
    return answer.status, bytes(answer.body), answer.values("retry-after"), answer.whole, answer.reusable


WHOLE = {
    "empty": (EMPTY, (200, b"", [], True, True)),
    "length": (REFUSAL, (422, b"because", ["7"], True, True)),
    "chunked": (CHUNKED, (200, b"well", [], True, True)),
    "interim": (HINTS + REFUSAL, (422, b"because", ["7"], True, True)),
    "many interim": (
        HINTS * 3
        + b"HTTP/1.1 100 Continue\r\nConnection: close\r\n\r\nHTTP/1.1 199 X\r\nContent-Length: 9\r\n\r\n"
        + EMPTY,
        (200, b"", [], True, True),
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", (204, b"", [], True, True)),
    "not modified": (b"HTTP/1.1 304 X\r\nContent-Length: 90\r\n\r\n", (304, b"", [], True, False)),
    "no content that announces some": (
        b"HTTP/1.1 204 X\r\nTransfer-Encoding: chunked\r\n\r\n",
        (204, b"", [], True, False),
    ),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", (200, b"", [], True, True)),
    "two rests": (
        b"HTTP/1.1 429 X\r\nRetry-After: 1\r\nretry-after: 2\r\nContent-Length: 0\r\n\r\n",
        (429, b"", ["1", "2"], True, True),
    ),
    "upgrade offered": (
        HEAD + b"Upgrade: h2c\r\nConnection: Upgrade, Keep-Alive\r\nContent-Length: 0\r\n\r\n",
        (200, b"", [], True, True),
    ),
    "old": (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", (200, b"", [], True, False)),
    "old and kept": (
        b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 0\r\n\r\n",
        (200, b"", [], True, True),
    ),
}
for number, value in enumerate(
    (b"close", b"CLOSE", b"keep-alive, Close", b"x,close,y", b"Keep-Alive\r\nConnection: close")
):
    WHOLE[f"close {number}"] = (
        HEAD + b"Connection: " + value + b"\r\nContent-Length: 0\r\n\r\n",
        (200, b"", [], True, False),
    )


@each(("data", "expected"), WHOLE.values())
def test_an_answer_is_the_same_however_it_is_cut_into_pieces(data, expected):
    """Whole, byte by byte, or in two pieces wherever they part: one answer, and it is whole with its last byte only."""
    assert facts(read(data)) == expected
    assert facts(read(*(bytes([byte]) for byte in data))) == expected
    for at in range(1, len(data)):
        assert not read(data[:at]).whole, data[:at]
        assert facts(read(data[:at], data[at:])) == expected, data[:at]


@each(("data", "expected"), WHOLE.values())
@each("more", [b"\r\n", b"\n", b"H", b"\0", EMPTY, REFUSAL, HINTS, b"x" * 1000])
def test_what_follows_an_answer_costs_its_connection_and_changes_nothing_else(data, expected, more):
    """A line break, junk, a second answer: this answer stands, whatever piece of it they come with."""
    for at in (0, 1, len(data) // 2, len(data) - 1):
        answer = read(*filter(None, (data[:at], data[at:] + more)))

        assert (*facts(answer)[:4], answer.surplus, answer.reusable) == (*expected[:4], True, False)


@each(("data", "expected"), WHOLE.values())
def test_an_answer_cut_at_any_byte_is_none(data, expected):
    """Where the connection ends before the answer does, nothing is taken for an answer."""
    for at in range(len(data)):
        with pytest.raises(ConnectionError, match="within its answer" if at else "unanswered"):
            read(*filter(None, [data[:at]]), b"")


def test_a_body_without_a_length_ends_with_its_connection():
    """From the end of its header on it may end anywhere, and its connection is never used again."""
    for at in range(len(UNTIL_CLOSE)):
        if at < len(HEAD) + 2:
            with pytest.raises(ConnectionError):
                read(*filter(None, [UNTIL_CLOSE[:at]]), b"")
        else:
            answer = read(UNTIL_CLOSE[:at], b"")
            assert facts(answer) == (200, UNTIL_CLOSE[len(HEAD) + 2 : at], [], True, False)


BROKEN = {
    "both framings": HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "both framings, other order": HEAD + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
    "chunked twice": HEAD + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked twice in a line": HEAD + b"Transfer-Encoding: chunked, Chunked\r\n\r\n0\r\n\r\n",
    "chunked HTTP/1.0": b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": HEAD + b"Content-Length: 0\r\nContent-Length: 5\r\n\r\nabcde",
    "a list of lengths": HEAD + b"Content-Length: 0, 5\r\n\r\nabcde",
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n",
    "huge length": HEAD + b"Content-Length: 99999999999999999999\r\n\r\n",
    "101": b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + EMPTY,
    "bare 101": b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + EMPTY,
    "101 after 103": HINTS + b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + EMPTY,
    "space before the colon": HEAD + b"Content-Length : 0\r\n\r\n",
    "folded": HEAD + b"X: a\r\n b\r\nContent-Length: 0\r\n\r\n",
    "NUL": HEAD + b"X: a\0b\r\nContent-Length: 0\r\n\r\n",
    "no colon": HEAD + b"X\r\nContent-Length: 0\r\n\r\n",
    "leading line break": b"\r\n" + EMPTY,
    "line break after 103": HINTS + b"\r\n" + EMPTY,
    "chunk size": HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x2\r\nok\r\n0\r\n\r\n",
    "chunk too long": HEAD + b"Transfer-Encoding: chunked\r\n\r\n2\r\nokay\r\n0\r\n\r\n",
    "SSH": b"SSH-2.0-OpenSSH\r\n",
    "RTSP": b"RTSP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
}
for line in (
    b"HTTP/1.1 0 X", b"HTTP/1.1 99 X", b"HTTP/1.1 099 X", b"HTTP/1.1 600 X", b"HTTP/1.1 999 X", b"HTTP/1.1 1000 X",
    b"HTTP/1.1 20 X", b"HTTP/1.1 -20 X", b"HTTP/1.1 2OO X", b"HTTP/1.1", b"HTTP/2.0 200 X", b"HTTP/0.9 200 X",
    b"HTTP/1.2 200 X", b"http/1.1 200 X", b"ICY 200 OK", b"200 OK", b"HTTP/1.1  200 X",
):  # fmt: skip
    BROKEN[line.decode()] = line + b"\r\nContent-Length: 0\r\n\r\n"


@each("data", BROKEN.values())
def test_what_is_not_exactly_http_is_no_answer(data):
    """Where two readers could understand two things, nothing was understood."""
    with pytest.raises(BrokenAnswerError):
        read(data)
    with pytest.raises(BrokenAnswerError):
        read(*(bytes([byte]) for byte in data))


def test_a_header_that_does_not_end_is_no_answer():
    """Interim answers count as well: neither can go on for ever."""
    for endless in (b"X: y\r\n", HINTS):
        answer = Answer()
        if endless is not HINTS:
            answer.feed(HEAD)
        with pytest.raises(BrokenAnswerError, match="longer than 64 KiB"):
            pour(answer, endless)


def test_a_body_that_does_not_end_is_cut_off_and_the_status_stands():
    """So much is read of it, be it body or the framing around it, and its connection is not used again."""
    for endless in (b"1\r\nx\r\n", b"1;" + b"x" * 100 + b"\r\nx\r\n"):
        answer = Answer()
        answer.feed(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
        fed = pour(answer, endless)

        assert (answer.status, answer.whole, answer.reusable) == (200, False, False)
        assert MAX_ANSWER_BYTES - MAX_HEAD_BYTES < fed <= MAX_ANSWER_BYTES + len(endless)


@pytest.mark.parametrize(
    ("value", "encoded"), [(b"gzip", True), (b"br, gzip", True), (b"identity\r\nX: y", False), (b"Identity", False)]
)
def test_a_compressed_body_is_known_as_such(value, encoded):
    """Nobody could read it, and a secret in it could not be found."""
    assert read(HEAD + b"Content-Encoding: " + value + b"\r\nContent-Length: 1\r\n\r\nx").encoded is encoded
