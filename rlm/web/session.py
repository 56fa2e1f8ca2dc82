"""Who makes a request (`visit_of`), what it may do, and the CSRF token of its session.

A session is a signed cookie of starlette with a name and a CSRF token. If a token is configured, a log-in starts it. It
then survives a restart of `rlm web`, because its key is derived from the token. Without a token, on the loopback
interface, the first page starts it. Such a session grants no access, but only pages loaded from here know its CSRF
token, so a foreign page cannot write.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Any, Final

from starlette.requests import Request

#: A session ends so long after it began, seconds.
SESSION_SECONDS: Final = 7 * 86_400
#: The key of a `Visit` in the scope of a request.
VISIT: Final = "rlm.visit"


@dataclass(slots=True)
class Visit:
    """Who makes one request, from which address, and what it may do.

    `session`: what its cookie contains, empty without one. `has_token`: it sent the token. `is_open`: no token is
    configured, so a page starts a session without a log-in.
    """

    session: dict[str, Any]
    address: str
    has_token: bool
    is_open: bool

    def begin(self) -> None:
        """Start a session; the answer sets its cookie."""
        self.session.update(name=secrets.token_hex(8), csrf=secrets.token_hex(32))

    @property
    def may_read(self) -> bool:
        """Whether it sent the token, has a session, or needs neither."""
        return self.has_token or self.is_open or bool(self.session)

    @property
    def may_write(self) -> bool:
        """Whether a page offers buttons."""
        return bool(self.session) or self.is_open

    @property
    def is_logged_in(self) -> bool:
        """Whether a page offers a log-out, which is `POST /logout`."""
        return bool(self.session) and not self.is_open

    def csrf_token(self) -> str:
        """Return the CSRF token for a page, whose script sends it back as `X-CSRF-Token` with each POST.

        Without a configured token this starts the session of a new visitor. Call it before the answer begins, which
        sets the cookie. Empty if the visitor has no session, such as a program with the token.
        """
        if not self.session and self.is_open:
            self.begin()
        return str(self.session.get("csrf", ""))

    @property
    def by(self) -> str:
        """Its name in logs and records: the token or a session, with its address."""
        who = f"session {self.session['name']}" if self.session else "token"
        return f"{who} at {self.address}"


def visit_of(request: Request) -> Visit:
    """Return the visit of a request."""
    visit: Visit = request.scope[VISIT]
    return visit
