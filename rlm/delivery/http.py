"""One HTTP call for one event: connect, send, receive. Each step ends by its deadline, whatever the endpoint does.

The steps are separate because connecting takes time: the slot of a call counts from when it is sent.
"""

from __future__ import annotations

import logging
import re
import ssl
import threading
from collections.abc import Callable, Mapping
from functools import cache

from rlm.core.clock import system_clock
from rlm.core.endpoint import Endpoint
from rlm.core.errors import RLMError
from rlm.delivery.connection import Connection, connect
from rlm.delivery.http_message import Answer, BrokenAnswerError, Request, render
from rlm.delivery.outcome import (
    BAD_HEADER,
    BROKEN,
    NO_ANSWER,
    SUCCESS,
    UNEXPECTED,
    Outcome,
    Unreachable,
    classify,
    kind_of_error,
    parse_date,
)
from rlm.settings.secrets import known

#: The most connections that are kept for another call. Those used last are kept.
MOST_KEPT = 100

_EXCERPT_CHARACTERS = 200
#: From this status on, the beginning of an answer is kept for people to read.
_REFUSING = 300
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")

log = logging.getLogger(__name__)


class Dispatcher:
    """Sends events over kept-alive connections, which the lanes of one worker process share.

    `resolve_headers` returns an endpoint's configured headers with their secrets. Redirects are not followed, and no
    proxy is taken from the environment.
    """

    def __init__(self, resolve_headers: Callable[[Endpoint], Mapping[str, str]]) -> None:
        self._resolve_headers = resolve_headers
        self._tls = cache(ssl.create_default_context)
        #: The kept connections with the URLs of their endpoints; the one used last is last.
        self._idle: list[tuple[str, Connection]] = []
        #: URLs that sent something unasked. Nothing is kept to them: what comes late during the next call would be
        #: taken for its answer.
        self._distrusted: set[str] = set()
        self._lock = threading.Lock()

    def connect(self, endpoint: Endpoint, seconds: float, *, fresh: bool = False) -> Connection:
        """Return an open connection to `endpoint` within `seconds`: a kept one or a new one, always new if `fresh`.

        A new one replaces a kept one, so that no more are open than calls were under way at one time.

        Raises:
            UnreachableError: it refused or did not answer in time; nothing was sent.
        """
        while connection := self._take(endpoint):
            usable = connection.is_usable()
            if usable and not fresh:
                return connection
            self._drop(endpoint, connection)
            if usable:
                break
        return connect(endpoint.url, seconds, self._tls)

    def keep(self, endpoint: Endpoint, connection: Connection) -> None:
        """Put back a connection without a call under way; close it if it may not serve another call."""
        if connection.is_usable():
            self._put(endpoint, connection)
        else:
            self._drop(endpoint, connection)

    def send(self, connection: Connection, endpoint: Endpoint, request: Request, deadline: float) -> Unreachable | None:
        """Send a request by `deadline` (monotonic seconds); return None if it left, else why it may not have.

        If it did not, the connection is closed. What an endpoint sends before the request is complete is read only if
        the whole request leaves; otherwise it is not an answer.
        """
        try:
            message = render(request, endpoint.url, self._resolve_headers(endpoint))
            if not (connection.kept or connection.is_quiet()):  # taking a slot for a new one took time
                raise ConnectionError("the endpoint closed the connection, or sent data unasked")
            connection.send(message, deadline)
        except ValueError:  # not quoted, because it concerns a header, which may be a secret
            connection.close()
            why = "the request could not be sent: a configured header is not what HTTP allows"
            return Unreachable(why, None, BAD_HEADER)
        except OSError as error:
            self._drop(endpoint, connection)
            why = f"the request could not be sent completely: {known().mask(str(error))}"
            return Unreachable(why, None, kind_of_error(error))
        except RLMError:
            connection.close()
            raise
        return None

    def receive(self, connection: Connection, endpoint: Endpoint, sent_at: float, deadline: float) -> Outcome:
        """Read the answer by `deadline` (monotonic seconds) and classify it. The connection is kept or closed."""
        try:
            answer = connection.receive(deadline)
            if system_clock.monotonic() >= deadline:
                raise TimeoutError
        except (OSError, BrokenAnswerError) as error:
            connection.close()
            detail, kind = _no_answer(error, sent_at, deadline)
            return Unreachable(known().mask(detail), None, kind)
        seconds = system_clock.monotonic() - sent_at
        if answer.reusable:
            self._put(endpoint, connection)  # it is checked before its next call
        else:
            self._drop(endpoint, connection)
        if answer.status in SUCCESS and endpoint.success:
            content_type = next(iter(answer.values("content-type")), "")
            if not endpoint.success.accepts(content_type, b"" if answer.encoded else answer.body):
                what = _excerpt(answer, f"{content_type or 'no content type'}: ")
                return Unreachable(f"HTTP {answer.status}, {UNEXPECTED}: {what}", seconds, UNEXPECTED)
        excerpt = "" if answer.status < _REFUSING else _excerpt(answer)
        rests = answer.values("retry-after")
        # By the endpoint's clock, like its `Retry-After`.
        now = next(map(parse_date, answer.values("date")), None) if rests else None
        return classify(answer.status, rests, excerpt, seconds, system_clock.now() if now is None else now)

    def close(self) -> None:
        """Close the idle connections."""
        self._close_idle(lambda _url: True)

    def _put(self, endpoint: Endpoint, connection: Connection) -> None:
        if endpoint.url in self._distrusted or not connection.is_young():
            self._drop(endpoint, connection)
            return
        with self._lock:
            self._idle.append((endpoint.url, connection))
            surplus = self._idle[:-MOST_KEPT]
            del self._idle[:-MOST_KEPT]
        for _, unused in surplus:
            unused.close()

    def _take(self, endpoint: Endpoint) -> Connection | None:
        with self._lock:
            for place in range(len(self._idle) - 1, -1, -1):
                if self._idle[place][0] == endpoint.url:
                    connection = self._idle.pop(place)[1]
                    connection.kept = True
                    return connection
        return None

    def _drop(self, endpoint: Endpoint, connection: Connection) -> None:
        """Close a connection; from one who spoke unasked keep none from now on."""
        connection.close()
        if connection.spoke and endpoint.url not in self._distrusted:
            self._distrusted.add(endpoint.url)
            self._close_idle(endpoint.url.__eq__)
            message = "%s sent data unasked on its connection; this worker keeps no connection to it any more"
            log.warning(message, endpoint.name, extra={"action": "distrust_endpoint", "endpoint": endpoint.name})

    def _close_idle(self, closes: Callable[[str], bool]) -> None:
        with self._lock:
            closed = [connection for url, connection in self._idle if closes(url)]
            self._idle = [(url, connection) for url, connection in self._idle if not closes(url)]
        for connection in closed:
            connection.close()


def _excerpt(answer: Answer, before: str = "") -> str:
    """Return the beginning of an answer's body, with what goes before it, without secrets and safe to show."""
    body = "" if answer.encoded else answer.body.decode("latin-1")
    text = known().mask(before + body, torn=not answer.whole)
    return _UNPRINTABLE.sub(" ", text)[:_EXCERPT_CHARACTERS].strip()


def _no_answer(error: Exception, sent_at: float, deadline: float) -> tuple[str, str]:
    """Return why there is no answer, as a sentence and as the word under which it is counted."""
    now = system_clock.monotonic()
    if isinstance(error, BrokenAnswerError) and now < deadline:
        return f"a broken answer after {now - sent_at:.1f} s: {error}", BROKEN
    kind = kind_of_error(error)
    if now >= deadline or kind == NO_ANSWER:
        return f"no answer within {now - sent_at:.1f} s", NO_ANSWER
    return f"the connection broke after {now - sent_at:.1f} s: {error}", kind
