"""The Redis that keeps the ledger: reached, fit, near enough, its clock, and what it has forgotten."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from redis.exceptions import ResponseError

from rlm.admin.doctor.findings import good, warning
from rlm.admin.explain.words import moment
from rlm.core.clock import isoformat, system_clock
from rlm.core.endpoint import all_limited
from rlm.core.errors import StoreError
from rlm.ledger.connect import address, translated
from rlm.ledger.fitness import check_fitness
from rlm.ledger.sizes import longest_bulk
from rlm.settings.secrets import EMBEDDED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding

#: Clocks of two hosts that are further apart than this are worth a warning, seconds.
CLOCK_SECONDS = 1.0
#: So long it is told that the windows could not be trusted, seconds.
TOLD_SECONDS = 24 * 3600.0
#: A Redis that admits items of more than so many times what RLM needs is worth a warning.
FAR = 16
#: Round trips that are timed.
PINGS = 20
#: The slowest of them may take this share of `run.guard_seconds`: the rest is for the call's own way to its server.
GUARD_SHARE = 0.5
#: And so long whatever the guard is, seconds: less is not measured here, but how busy this host is.
LEAST_SECONDS = 0.05


def check_redis(store: Store, *, allow_volatile: bool) -> Iterator[Finding]:
    """Look whether Redis can be reached and is fit to keep the ledger.

    Raises:
        StoreError: it cannot be reached, or refuses the login.
    """
    fitness = check_fitness(store.client, allow_volatile=allow_volatile)
    yield good("redis", f"reached at {address(store.client)}")
    yield check_transport(store.settings.redis.url)
    yield from (replace(found, name=f"redis.{found.name}") for found in fitness.findings)
    yield from _check_bulk(store)


def _check_bulk(store: Store) -> Iterator[Finding]:
    """Look how large an item Redis admits; nothing where this user may not ask, as the documented one may not."""
    try:
        with translated(store.client):
            admitted = int(store.client.config_get("proto-max-bulk-len").get("proto-max-bulk-len") or 0)
    except (ResponseError, StoreError):
        return
    if not admitted:
        return
    needed = longest_bulk(store.settings.queue.max_item_bytes)
    message = f"it admits items of {admitted:,} bytes, RLM needs {needed:,} (proto-max-bulk-len)"
    if admitted > FAR * needed:
        remedy = f"CONFIG SET proto-max-bulk-len {needed}, unless other programs need more: giants hold all others up"
        yield warning("redis.bulk", message, remedy)
    elif admitted < needed:
        yield warning("redis.bulk", message, f"set proto-max-bulk-len to {needed}: a long dead letter would be refused")
    else:
        yield good("redis.bulk", message)


def check_transport(url: str) -> Finding:
    """Tell whether others can read along, by the URL alone: a name is not resolved."""
    name = "redis.transport"
    scheme, _, rest = url.partition("://")
    if url == EMBEDDED or scheme == "unix":
        return good(name, "by a Unix socket of this host")
    if scheme == "rediss":
        return good(name, "encrypted, and the server's certificate is checked")
    hosts = [urlsplit(f"//{place}").hostname or "localhost" for place in _authority(rest).split(",")]
    if others := [host for host in hosts if not _is_loopback(host)]:
        message = f"{', '.join(others)}: password and items go there unencrypted (redis.url is {scheme}://)"
        return warning(
            name, message, "use rediss:// and a user of RLM's own, see docs/security.md, or a private network"
        )
    return good(name, "by the loopback interface of this host")


def _authority(rest: str) -> str:
    return rest.partition("?")[0].rpartition("@")[2].partition("/")[0]


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def check_latency(store: Store) -> Iterator[Finding]:
    """Time round trips to Redis: the answer that grants a slot takes one, and the call is to be read within the guard.

    One more is made before, which may have to connect.
    """
    guard = store.settings.run.guard_seconds
    most = max(GUARD_SHARE * guard, LEAST_SECONDS)
    _ping(store)
    trips = [_ping(store) for _ in range(PINGS)]
    message = f"a round trip takes {_ms(median(trips))}, the worst of {PINGS} took {_ms(max(trips))}"
    if max(trips) <= most:
        yield good("latency", f"{message}; up to {_ms(most)} is well with run.guard_seconds = {guard:g}")
        return
    remedy = (
        f"have Redis nearer or less busy (SLOWLOG GET, its disk), or set run.guard_seconds to "
        f"{max(trips) / GUARD_SHARE:.2g} or more"
    )
    yield warning("latency", f"{message}; more than {_ms(most)} is much for run.guard_seconds = {guard:g}", remedy)


def _ping(store: Store) -> float:
    asked_at = system_clock.monotonic()
    with translated(store.client):
        store.client.ping()
    return system_clock.monotonic() - asked_at


def _ms(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.2g} ms" if milliseconds < 10 else f"{milliseconds:,.0f} ms"  # noqa: PLR2004  # two digits


def check_clock(store: Store) -> Iterator[Finding]:
    """Compare the clock of Redis with this host's; the time of the question is no difference."""
    asked_at = system_clock.now()
    now_us = store.now_us()
    answered_at = system_clock.now()
    ahead = now_us / 1_000_000 - min(max(now_us / 1_000_000, asked_at), answered_at)
    if abs(ahead) <= CLOCK_SECONDS:
        yield good("clock", f"this host and Redis agree to {abs(ahead):.1f} s")
        return
    message = f"the clock of Redis is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this host's"
    yield warning("clock", message, "have both set by NTP (chrony, systemd-timesyncd)")


def check_memory(store: Store) -> Iterator[Finding]:
    """Tell whether the windows could not be trusted a while ago: then Redis lost data, or its clock stepped."""
    found = store.epochs.last_renewal()
    if found is None or system_clock.now() - found.at > TOLD_SECONDS:
        yield good("memory", "Redis has forgotten no call that is known of")
        return
    now, until = system_clock.now(), _held_until(store, found.at)
    ends = moment(until, now).partition(".")[0]
    message = f"{isoformat(found.at)}: {found.why}. Every endpoint {'is' if until > now else 'was'} held until {ends}"
    remedy = "find out why (docs/troubleshooting.md, under its symptom); events that Redis lost RLM cannot bring back"
    yield warning("memory", message, remedy)


def _held_until(store: Store, renewed_at: float) -> float:
    """Say when the last endpoint is held no longer, seconds since 1970: its longest period after any call's end."""
    limited = all_limited(store.endpoints().values())
    longest = max(one.limit.longest_seconds for one in limited) + store.settings.run.guard_seconds
    timeout = max(one.timeout_seconds for one in store.settings.endpoints.values())
    now_us, views = store.windows.look(limited)
    held = max(view.held_seconds for view in views.values())  # longer where a limit looked further back by then
    return max(renewed_at + longest + timeout, now_us / 1_000_000 + held if held else 0.0)
