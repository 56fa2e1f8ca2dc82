"""Connections to each endpoint, with TLS, and to Sentry: they are opened and closed, and nothing is sent."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from queue import Empty, Queue
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from rlm.admin.doctor.findings import good, warning
from rlm.core.clock import system_clock
from rlm.core.endpoint import target_of
from rlm.core.tally import address_of
from rlm.core.text import named
from rlm.delivery import Opener, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.core.endpoint import Endpoint
    from rlm.ledger.fitness import Finding
    from rlm.settings import Settings


#: Time for one connection and for all of them, seconds; and connections opened at once.
EACH_SECONDS: Final = 2.0
ALL_SECONDS: Final = 10.0
AT_ONCE: Final = 32
#: Addresses with a finding of their own, and endpoints named for each; the others are counted.
MOST_FINDINGS: Final = 5
MOST_NAMED: Final = 3

_MEND: Final = "start it, or mend its address, its certificate or the way there; calls to it fail until then"

#: A host that has not answered after this is unreachable, seconds.
REACH_SECONDS = 2.0
_PROXY_PORT = 80


def check_reach(settings: Settings) -> Iterator[Finding]:
    """Check that a connection can be opened to the address of each endpoint."""
    by_target: dict[tuple[str, int, str], list[Endpoint]] = {}
    for endpoint in settings.endpoints.values():
        by_target.setdefault(target_of(endpoint.url), []).append(endpoint)
    ends_at = system_clock.monotonic() + ALL_SECONDS
    opener = Opener()
    with ThreadPoolExecutor(min(AT_ONCE, len(by_target) or 1)) as pool:
        told = list(pool.map(lambda some: _try(opener, some[0].url, ends_at), by_target.values()))
    failed = [(some, why) for some, why in zip(by_target.values(), told, strict=True) if why]
    for some, why in failed[:MOST_FINDINGS]:
        names = named([one.name for one in some], MOST_NAMED)
        yield warning(f"{address_of(some[0].url)}: {why} ({names})", _MEND)
    if len(failed) > MOST_FINDINGS:
        yield warning(f"and {len(failed) - MOST_FINDINGS:,} more addresses like that", _MEND)
    addresses = "1 address" if len(by_target) == 1 else f"{len(by_target):,} addresses"
    if untried := told.count(None):
        yield good(f"{untried:,} of {addresses}: there was no time to try")
    elif not failed:
        yield good(f"each can be connected to: {addresses}")


def _try(opener: Opener, url: str, ends_at: float) -> str | None:
    """Open and close a connection; return why it could not be opened, None if there was no time to try."""
    seconds = min(EACH_SECONDS, ends_at - system_clock.monotonic())
    if seconds <= 0:
        return None
    try:
        opener.open(url, seconds).close()
    except UnreachableError as error:
        return error.kind
    return ""


def check_sentry(settings: Settings) -> Finding:
    """Check that the host of the DSN, or the proxy before it, accepts connections; only host and port are shown."""
    if settings.sentry_dsn is None:
        return good("off: SENTRY_DSN is not set")
    try:
        host, port, what = _first_hop(settings.sentry_dsn)
    except ValueError:  # its message may quote a piece of a password
        message = "SENTRY_DSN, or the proxy on the way to Sentry (http_proxy, https_proxy), has a port that is none"
        return warning(message, "correct it, and percent-encode its password; RLM works without")
    if trouble := _trouble(host, port):
        remedy = "let this host connect there, or correct SENTRY_DSN; RLM works without, but errors are not reported"
        return warning(f"{what} {host}:{port} cannot be reached: {trouble}", remedy)
    return good(f"{what} {host}:{port} can be reached")


def _first_hop(dsn: str) -> tuple[str, int, str]:
    """Return the host and port to connect to, and what they are."""
    host, port, scheme = target_of(dsn)
    proxy = getproxies().get(scheme, "")
    if not proxy or proxy_bypass(host):
        return host, port, "the host of SENTRY_DSN"
    through = urlsplit(proxy if "://" in proxy else f"//{proxy}")
    return through.hostname or "", through.port or _PROXY_PORT, "the proxy on the way to Sentry,"


def _trouble(host: str, port: int) -> str:
    """Return why a connection failed, empty if it did not. The thread bounds the time to resolve the name."""
    outcome: Queue[str] = Queue()

    def connect() -> None:
        try:
            socket.create_connection((host, port), REACH_SECONDS).close()
        except OSError as error:
            outcome.put(error.strerror or str(error) or type(error).__name__)
        else:
            outcome.put("")

    threading.Thread(target=connect, name="reach-sentry", daemon=True).start()
    try:
        return outcome.get(timeout=REACH_SECONDS)
    except Empty:
        return f"no answer within {REACH_SECONDS:g} s"
