"""One HTTP call for one event: connect, send, receive. Each step ends by its deadline, whatever the endpoint does.

The steps are separate because the slot is taken between `connect` and `send`.
"""

from __future__ import annotations

import itertools
import logging
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping

from rlm.core.clock import system_clock
from rlm.core.endpoint import Endpoint
from rlm.core.errors import RLMError
from rlm.delivery.connection import Connection, Opener, UnreachableError
from rlm.delivery.http_message import Answer, BrokenAnswerError, Request, render
from rlm.delivery.outcome import (
    BAD_HEADER,
    BROKEN,
    NO_ANSWER,
    Outcome,
    Unreachable,
    classify,
    is_silence,
    kind_of_error,
    parse_date,
)
from rlm.settings.secrets import known

#: For how long no connection is kept to an origin that spoke unasked, seconds. Late data that arrives during the next
#: call would be taken for its answer.
DISTRUST_SECONDS = 600.0
#: An endpoint rarely closes a connection sooner than this after an answer, seconds.
_LATELY_SECONDS = 1.0
#: The most connections that a lane takes into a turn. With more origins it takes those used last, and connects to
#: others after the claim, because naming thousands would cost more.
MOST_BORROWED = 100

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
        self._opener = Opener()
        #: By origin; the one used last is last.
        self._idle: defaultdict[str, list[Connection]] = defaultdict(list)
        self._distrusted_until: dict[str, float] = {}
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
        return self._open(endpoint, seconds)

    def reach(self, endpoint: Endpoint) -> None:
        """Replace all kept connections to its origin by a new one, because its way was shut and they may be dead.

        Raises:
            UnreachableError: as `connect` does.
        """
        with self._lock:
            idle = self._idle.pop(endpoint.origin, [])
        for connection in idle:
            connection.close()
        self.keep(endpoint, self._open(endpoint, endpoint.timeout_seconds, doubtful=True))

    def borrow(self, endpoints: Mapping[str, Endpoint]) -> dict[str, Connection]:
        """Take a kept connection to each origin used lately. Put unused ones back at once.

        `endpoints` has an endpoint of each origin wanted.
        """
        now = system_clock.monotonic()
        with self._lock:
            lately = itertools.islice(reversed(self._idle.items()), MOST_BORROWED)
            found = {origin: idle.pop() for origin, idle in lately if idle and origin in endpoints}
        for origin in [one for one, connection in found.items() if now - connection.seen_at >= _LATELY_SECONDS]:
            found[origin].seen_at = now
            if not found[origin].is_usable():
                self._drop(endpoints[origin], found.pop(origin))
        return found

    def put_back(self, borrowed: Mapping[str, Connection]) -> None:
        """Put back borrowed connections that were not used."""
        now = system_clock.monotonic()
        with self._lock:
            for origin, connection in borrowed.items():
                if now >= self._distrusted_until.get(origin, now):
                    self._idle[origin].append(connection)
                else:
                    connection.close()

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
            if not connection.is_quiet():  # checked again, because taking a slot took time
                raise ConnectionError("the endpoint closed the connection, or sent data unasked")
            connection.send(message, deadline)
        except ValueError:  # not quoted, because it concerns a header, which may be a secret
            connection.close()
            told = "the request could not be sent: a configured header is not what HTTP allows"
            return Unreachable(told, None, BAD_HEADER)
        except OSError as error:
            self._drop(endpoint, connection)
            told = f"the request could not be sent completely: {known().mask(str(error))}"
            return Unreachable(told, None, kind_of_error(error), silent=self._is_silence(error))
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
            return Unreachable(known().mask(detail), None, kind, silent=self._is_silence(error))
        self._opener.in_doubt = False
        seconds = system_clock.monotonic() - sent_at
        if answer.reusable:
            self._put(endpoint, connection)  # it is checked before its next call
        else:
            self._drop(endpoint, connection)
        excerpt = "" if answer.status < _REFUSING else self._excerpt(answer)
        # By the endpoint's clock, like its `Retry-After`.
        now = parse_date(answer.date) if answer.retry_after else None
        return classify(answer.status, answer.retry_after, excerpt, seconds, system_clock.now() if now is None else now)

    def close(self) -> None:
        """Close the idle connections."""
        with self._lock:
            for connection in itertools.chain.from_iterable(self._idle.values()):
                connection.close()
            self._idle.clear()

    def _put(self, endpoint: Endpoint, connection: Connection) -> None:
        now = system_clock.monotonic()
        if connection.is_young(now) and now >= self._distrusted_until.get(endpoint.origin, now):
            with self._lock:
                self._idle[endpoint.origin] = [*self._idle.pop(endpoint.origin, ()), connection]
        else:
            self._drop(endpoint, connection)

    def _take(self, endpoint: Endpoint) -> Connection | None:
        with self._lock:
            idle = self._idle.get(endpoint.origin)
            return idle.pop() if idle else None

    def _open(self, endpoint: Endpoint, seconds: float, *, doubtful: bool = False) -> Connection:
        try:
            return self._opener.open(endpoint.url, seconds, doubtful=doubtful)
        except UnreachableError as error:
            if error.outcome.silent:
                self._doubt()
            raise

    def _is_silence(self, error: Exception) -> bool:
        if silent := is_silence(error):
            self._doubt()
        return silent

    def _doubt(self) -> None:
        """Close all kept connections: something was not acknowledged, so they may be dead as well."""
        self._opener.in_doubt = True
        self.close()

    def _drop(self, endpoint: Endpoint, connection: Connection) -> None:
        connection.close()
        if connection.spoke:
            self._distrust(endpoint)

    def _distrust(self, endpoint: Endpoint) -> None:
        """Keep no connection to the endpoint's origin for a while, and close those kept now."""
        now = system_clock.monotonic()
        with self._lock:
            known = now < self._distrusted_until.get(endpoint.origin, now)
            self._distrusted_until[endpoint.origin] = now + DISTRUST_SECONDS
            idle = self._idle.pop(endpoint.origin, [])
        for connection in idle:
            connection.close()
        if not known:
            told = "%s sent data unasked on its connection; no connection to its host is kept for %.0f s"
            extra = {"action": "distrust_endpoint", "endpoint": endpoint.name}
            log.warning(told, endpoint.name, DISTRUST_SECONDS, extra=extra)

    @staticmethod
    def _excerpt(answer: Answer) -> str:
        """Return the beginning of an answer's body, without secrets and safe to show."""
        if answer.encoded:
            return ""
        text = known().mask(answer.body.decode("latin-1"), torn=not answer.whole)
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
