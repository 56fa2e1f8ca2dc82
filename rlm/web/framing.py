"""Where a request ends: what two readers could understand differently is refused (request smuggling).

A proxy in front goes by one of two lengths and h11 by the other; what one takes for the body the other takes for the
next request. h11 refuses lengths that differ, but takes equal ones for one, and Transfer-Encoding before
Content-Length, as the RFC allows. Neither is ever needed, so neither is taken.
"""

from __future__ import annotations

import re
from typing import Any

import h11

#: The value of each Content-Length in a head, with the lines it goes on in.
_LENGTH = re.compile(rb"^content-length[ \t]*:((?:[^\n]|\n[ \t])*)", re.IGNORECASE | re.MULTILINE)
_END_OF_HEAD = re.compile(rb"\n\r?\n")


class StrictConnection(h11.Connection):
    """Raises `h11.RemoteProtocolError`, which is answered with 400 and closes the connection."""

    def next_event(self) -> Any:
        """Return the next event of h11, if it cannot be understood in two ways.

        Raises:
            h11.RemoteProtocolError: it can, or it is not HTTP.
        """
        if self.their_state is h11.IDLE:
            self._check_lengths()
        event = super().next_event()
        if isinstance(event, h11.Request):
            _check_encoding(event)
        return event

    def _check_lengths(self) -> None:
        """Look at what was sent: of two lengths that are equal h11 shows only one."""
        head = _END_OF_HEAD.split(self.trailing_data[0], maxsplit=1)[0]
        values = _LENGTH.findall(head)
        if len(values) > 1 or b"," in b"".join(values):
            raise h11.RemoteProtocolError("more than one Content-Length")


def _check_encoding(request: h11.Request) -> None:
    names = {name for name, _ in request.headers}
    if b"transfer-encoding" not in names:
        return
    if b"content-length" in names or request.http_version < b"1.1":
        raise h11.RemoteProtocolError("Transfer-Encoding beside Content-Length, or in HTTP/1.0")
