"""One HTTP call for one event: connect, send, receive. Each step ends by its deadline, whatever the endpoint does.

The steps are separate because connecting takes time: the slot of a call counts from when it is sent.
"""

from __future__ import annotations

import re
import ssl
import threading
from functools import cache

from rlm.core.call import CallEnd
from rlm.core.clock import system_clock
from rlm.core.documents import WEB_PAGE
from rlm.core.endpoint import Endpoint
from rlm.delivery.connection import Connection, connect
from rlm.delivery.http_message import Answer, BrokenAnswerError, Request, head_of, render
from rlm.delivery.outcome import Kind, Outcome, classify, kind_of_error, parse_date
from rlm.settings.secrets import mask, resolve

#: The most connections that are kept for another call. Those used last are kept.
MOST_KEPT = 100

_UNPRINTABLE = re.compile(r"[^\x20-\x7e]+")


class Dispatcher:
    """Sends events over kept-alive connections, which the lanes of one worker process share.

    Redirects are not followed, and no proxy is taken from the environment.
    """

    def __init__(self) -> None:
        self._tls = cache(ssl.create_default_context)
        #: The heads of requests; they hold secrets, which a cache does not show.
        self._head = cache(_head)
        #: The kept connections with the URLs of their endpoints; the one used last is last.
        self._idle: list[tuple[str, Connection]] = []
        self._lock = threading.Lock()

    def connect(self, endpoint: Endpoint, seconds: float, *, fresh: bool = False) -> Connection:
        """Return an open connection to `endpoint` within `seconds`: a kept one or a new one, always new if `fresh`.

        A new one replaces a kept one, so that no more are open than calls were under way at one time.

        Raises:
            UnreachableError: it refused or did not answer in time; nothing was sent.
        """
        while connection := self._take(endpoint.url):
            is_usable = connection.is_usable()
            if is_usable and not fresh:
                return connection
            connection.close()
            if is_usable:
                break
        return connect(endpoint.url, seconds, self._tls)

    def _take(self, url: str) -> Connection | None:
        with self._lock:
            for place in range(len(self._idle) - 1, -1, -1):
                if self._idle[place][0] == url:
                    connection = self._idle.pop(place)[1]
                    connection.kept = True
                    return connection
        return None

    def keep(self, endpoint: Endpoint, connection: Connection) -> None:
        """Put back a connection without a call under way; it is checked before its next call."""
        with self._lock:
            self._idle.append((endpoint.url, connection))
            unused = self._idle.pop(0)[1] if len(self._idle) > MOST_KEPT else None
        if unused:
            unused.close()

    def send(self, connection: Connection, endpoint: Endpoint, request: Request, deadline: float) -> Outcome | None:
        """Send a request by `deadline` (monotonic seconds); return None if it left, else why it may not have.

        If it did not, the connection is closed. What an endpoint sends before the request is complete is read only if
        the whole request leaves; otherwise it is not an answer.
        """
        try:
            message = render(self._head(endpoint.url, *endpoint.headers.items()), request)
            connection.send(message, deadline)
        except ValueError:  # not quoted, because it concerns a header, which may be a secret
            connection.close()
            why = "the request could not be sent: a header or the event is not what HTTP allows"
            return Outcome(why, None, Kind.BAD_HEADER)
        except OSError as error:
            connection.close()
            why = f"the request could not be sent completely: {mask(str(error))}"
            return Outcome(why, None, kind_of_error(error))
        except BaseException:
            connection.close()
            raise
        return None

    def receive(self, connection: Connection, endpoint: Endpoint, sent_at: float, deadline: float) -> Outcome:
        """Read the answer by `deadline` (monotonic seconds) and classify it. The connection is kept or closed."""
        try:
            answer = connection.receive(deadline)
        except (OSError, BrokenAnswerError) as error:
            connection.close()
            kind, lasted = kind_of_error(error), f"{system_clock.monotonic() - sent_at:.1f} s"
            detail = f"no answer within {lasted}" if kind == Kind.NO_ANSWER else f"{kind} after {lasted}: {error}"
            return Outcome(mask(detail), None, kind)
        seconds = system_clock.monotonic() - sent_at
        if answer.reusable:
            self.keep(endpoint, connection)
        else:
            connection.close()
        if answer.status in range(200, 300):
            return _delivered(answer, endpoint, seconds)
        rests = answer.values("retry-after")
        # By the endpoint's clock, like its `Retry-After`.
        now = next(map(parse_date, answer.values("date")), None) if rests else None
        return classify(answer.status, rests, _excerpt(answer), seconds, system_clock.now() if now is None else now)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            for _, connection in self._idle:
                connection.close()
            self._idle.clear()


def _head(url: str, *headers: tuple[str, str]) -> bytes:
    return head_of(url, {name: resolve(value) for name, value in headers})


def _delivered(answer: Answer, endpoint: Endpoint, seconds: float) -> Outcome:
    """Return the outcome of a 2xx, which may be another answer than the settings call a success."""
    content_type, text = next(iter(answer.values("content-type")), ""), f"HTTP {answer.status}"
    if endpoint.success and not endpoint.success.accepts(content_type, b"" if answer.encoded else answer.body):
        what = _excerpt(answer, f"{content_type or 'no content type'}: ")
        return Outcome(f"{text}, {Kind.UNEXPECTED}: {what}", seconds, Kind.UNEXPECTED)
    if not endpoint.success and content_type.lower().startswith("text/html"):  # perhaps a login page
        return Outcome(f"{text}, {_excerpt(answer, f'{content_type}: ')}", seconds, WEB_PAGE, CallEnd.COMPLETED)
    return Outcome(text, seconds, finish=CallEnd.COMPLETED)


def _excerpt(answer: Answer, before: str = "") -> str:
    """Return the beginning of an answer's body, with what goes before it, without secrets and safe to show."""
    body = "" if answer.encoded else answer.body.decode("latin-1")
    text = mask(before + body, torn=not answer.whole)
    return _UNPRINTABLE.sub(" ", text)[:200].strip()
