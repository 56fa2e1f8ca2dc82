"""Connections to each endpoint, with TLS, and to Sentry: they are opened and closed, and nothing is sent."""

from __future__ import annotations

import socket
import threading
from concurrent.futures import ThreadPoolExecutor
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
_PORTS = {"http": 80, "https": 443}


def check_reach(settings: Settings) -> Iterator[Finding]:
    """Check that a connection can be opened to the address of each endpoint."""
    by_target: dict[tuple[str, int, str], list[Endpoint]] = {}
    for endpoint in settings.endpoints.values():
        by_target.setdefault(target_of(endpoint.url), []).append(endpoint)
    ends_at = system_clock.monotonic() + ALL_SECONDS
    opener = Opener()
    with ThreadPoolExecutor(min(AT_ONCE, len(by_target) or 1)) as pool:
        told = list(pool.map(lambda some: _try(opener, some[0].url, ends_at), by_target.values()))
    tried = [(some, why) for some, why in zip(by_target.values(), told, strict=True) if why is not None]
    failed = [(some, why) for some, why in tried if why]
    for some, why in failed[:MOST_FINDINGS]:
        yield warning("reach", f"{address_of(some[0].url)}: {why} ({_named(some)})", _MEND)
    if len(failed) > MOST_FINDINGS:
        yield warning("reach", f"and {len(failed) - MOST_FINDINGS:,} more addresses like that", _MEND)
    if len(tried) < len(by_target):
        untried = len(by_target) - len(tried)
        yield good("reach", f"{untried:,} of {_addresses(len(by_target))}: there was no time to try")
    elif not failed:
        yield good("reach", f"each can be connected to: {_addresses(len(by_target))}")


def _addresses(number: int) -> str:
    return "1 address" if number == 1 else f"{number:,} addresses"


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


def _named(endpoints: list[Endpoint]) -> str:
    return named([one.name for one in endpoints], MOST_NAMED)


def check_sentry(settings: Settings) -> Iterator[Finding]:
    """Check that the host of the DSN, or the proxy before it, accepts connections; only host and port are shown."""
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
    """Return the host and port to connect to, and what they are."""
    parts = urlsplit(dsn)
    host, port = parts.hostname or "", parts.port or _PORTS[parts.scheme]
    proxy = getproxies().get(parts.scheme, "")
    if not proxy or proxy_bypass(host):
        return host, port, "the host of SENTRY_DSN"
    through = urlsplit(proxy if "://" in proxy else f"//{proxy}")
    return through.hostname or "", through.port or _PORTS["http"], "the proxy on the way to Sentry,"


def _trouble(host: str, port: int) -> str:
    """Return why a connection failed, empty if it did not. The thread bounds the time to resolve the name."""
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
