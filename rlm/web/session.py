"""Who makes a request (`visit_of`), what it may do, and the CSRF token of a page.

A session is a signed cookie. If a token is configured, a log-in starts it. It then survives a restart of `rlm web`,
because its key is derived from the token. Without a token, on the loopback interface, the first page starts it. Such a
session grants no access, but only pages loaded from here know its CSRF token, so a foreign page cannot write.
"""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Final

from starlette.requests import Request

from rlm.core.clock import Clock, system_clock

#: A session ends when it was not used for this long, and at most this long after it began, seconds.
IDLE_SECONDS: Final = 12 * 3600
LONGEST_SECONDS: Final = 30 * 86_400
#: The key of a `Visit` in the scope of a request.
VISIT: Final = "rlm.visit"


@dataclass(frozen=True, slots=True)
class WebSession:
    """A session of a browser; times in seconds since 1970."""

    id: str
    began: int
    until: int

    @property
    def name(self) -> str:
        """Its name in logs and records, which does not reveal the id."""
        return f"session {sha256(self.id.encode()).hexdigest()[:8]}"


class Sessions:
    """Starts sessions, and reads them from their cookies."""

    def __init__(self, token: str, clock: Clock = system_clock) -> None:
        """Sign with a key derived from `token`; without one with a random key, which a restart changes."""
        self._key = self._sign_with(token.encode(), "key") if token else secrets.token_bytes()
        self._clock = clock
        self._ended: dict[str, int] = {}

    def begin(self) -> WebSession:
        """Start a session."""
        now = int(self._clock.now())
        return WebSession(secrets.token_hex(16), now, now + IDLE_SECONDS)

    def renewed(self, session: WebSession) -> WebSession:
        """Return the session with its end extended, because it is used."""
        return replace(session, until=min(int(self._clock.now()) + IDLE_SECONDS, session.began + LONGEST_SECONDS))

    def end(self, session: WebSession) -> None:
        """End a session: this process no longer accepts its cookies."""
        now = self._clock.now()
        self._ended = {one: until for one, until in self._ended.items() if until > now}
        self._ended[session.id] = session.began + LONGEST_SECONDS

    def has_ended(self, session: WebSession) -> bool:
        """Return whether a session was ended here or is too old, whatever its cookie says."""
        return session.id in self._ended or session.began + LONGEST_SECONDS <= self._clock.now()

    def cookie(self, session: WebSession) -> str:
        """Return the value of its cookie."""
        said = f"{session.id}.{session.began}.{session.until}"
        return f"{said}.{self._sign_with(self._key, 'session', said).hex()}"

    def read(self, cookie: str) -> WebSession | None:
        """Return the session of a cookie; None if it was not signed here or has ended."""
        said, _, signed = cookie.rpartition(".")
        right = self._sign_with(self._key, "session", said).hex()
        if not hmac.compare_digest(signed.encode(errors="replace"), right.encode()):
            return None
        session_id, began, until = said.split(".")
        is_over = session_id in self._ended or int(until) <= self._clock.now()
        return None if is_over else WebSession(session_id, int(began), int(until))

    def csrf(self, session: WebSession) -> str:
        """Return the token that a page of this session sends with each write."""
        return self._sign_with(self._key, "csrf", session.id).hex()

    @staticmethod
    def _sign_with(key: bytes, *words: str) -> bytes:
        return hmac.digest(key, "\n".join(words).encode(errors="replace"), "sha256")


@dataclass(slots=True)
class Visit:
    """Who makes one request, from which address, and what it may do.

    `has_token`: it sent the token. `is_open`: no token is configured, so a page starts a session without a log-in.
    """

    sessions: Sessions
    address: str
    has_token: bool
    is_open: bool
    session: WebSession | None = None
    #: The session whose cookie the answer sets, or deletes if the session has ended.
    to_set: WebSession | None = None

    @property
    def may_read(self) -> bool:
        """Whether it sent the token, has a session, or needs neither."""
        return self.has_token or self.is_open or self.session is not None

    def end(self) -> None:
        """End its session."""
        if self.session is not None:
            self.sessions.end(self.session)
            self.to_set = self.session

    @property
    def may_write(self) -> bool:
        """Whether a page offers buttons."""
        return self.session is not None or self.is_open

    @property
    def is_logged_in(self) -> bool:
        """Whether a page offers a log-out, which is `POST /logout`."""
        return self.session is not None and not self.is_open

    def csrf_token(self) -> str:
        """Return the CSRF token for a page, whose script sends it back as `X-CSRF-Token` with each POST.

        Without a configured token this starts the session of a new visitor. The answer sets the session's cookie, so
        call this before the answer begins. Empty if the visitor has no session, such as a program with the token.
        """
        if self.session is None and self.is_open:
            self.session = self.to_set = self.sessions.begin()
        return self.sessions.csrf(self.session) if self.session else ""

    @property
    def who(self) -> str:
        """Its name in logs and records: the token or a session."""
        return "token" if self.has_token or self.session is None else self.session.name

    @property
    def by(self) -> str:
        """The same with its address."""
        return f"{self.who} at {self.address}"


def visit_of(request: Request) -> Visit:
    """Return the visit of a request."""
    visit: Visit = request.scope[VISIT]
    return visit
