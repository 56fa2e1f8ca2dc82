"""Whether Sentry can be reached from here: a connection is made and nothing is sent."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from rlm.admin.doctor.findings import good, warning

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger.fitness import Finding
    from rlm.settings import Settings

#: A host that has not answered after this is taken for unreachable, seconds.
REACH_SECONDS = 2.0

_PORTS = {"http": 80, "https": 443}


def check_sentry(settings: Settings) -> Iterator[Finding]:
    """Connect to the host of the DSN, or to the proxy on the way there; of the DSN only host and port are told."""
    if settings.sentry_dsn is None:
        yield good("sentry", "off: SENTRY_DSN is not set")
        return
    try:
        host, port, what = _first_hop(settings.sentry_dsn)
    except ValueError:  # its message may quote a piece of a password
        message = "SENTRY_DSN, or the proxy on the way to Sentry (http_proxy, https_proxy), has a port that is none"
        yield warning("sentry", message, "correct it, and percent-encode its password; RLM works without")
        return
    if trouble := _trouble(host, port):
        message = f"{what} {host}:{port} cannot be reached: {trouble}"
        remedy = "let this host connect there, or correct SENTRY_DSN; RLM works without, but errors are not reported"
        yield warning("sentry", message, remedy)
        return
    yield good("sentry", f"{what} {host}:{port} can be reached")


def _first_hop(dsn: str) -> tuple[str, int, str]:
    """Return the host and port that are connected to, and what they are."""
    parts = urlsplit(dsn)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    proxy = getproxies().get(parts.scheme, "")
    if not proxy or proxy_bypass(host):
        return host, port, "the host of SENTRY_DSN"
    through = urlsplit(proxy if "://" in proxy else f"//{proxy}")
    return through.hostname or "", through.port or _PORTS["http"], "the proxy on the way to Sentry,"


def _trouble(host: str, port: int) -> str:
    """Connect, and say what went wrong, if anything; a name that takes too long to resolve is waited for no longer."""
    outcome: list[str] = []

    def connect() -> None:
        try:
            socket.create_connection((host, port), REACH_SECONDS).close()
        except OSError as error:
            outcome.append(error.strerror or str(error) or type(error).__name__)
        else:
            outcome.append("")

    thread = threading.Thread(target=connect, name="reach-sentry", daemon=True)
    thread.start()
    thread.join(REACH_SECONDS)
    return outcome[0] if outcome else f"no answer within {REACH_SECONDS:g} s"
