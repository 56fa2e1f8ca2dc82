"""The Redis of the ledger: whether it is reachable, fit, secure and fast enough, its clock, its data loss."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from statistics import median
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

from rlm.admin.explain.words import moment
from rlm.core.clock import isoformat, system_clock
from rlm.core.endpoint import all_limited
from rlm.core.errors import StoreError
from rlm.ledger import Store
from rlm.ledger.epoch_file import REMEDY as EPOCH_REMEDY
from rlm.ledger.fitness import Finding, check_fitness, good, warning
from rlm.ledger.keys import longest_bulk
from rlm.settings.secrets import EMBEDDED

#: Warn if the clocks of two hosts differ by more than this, seconds.
CLOCK_SECONDS = 1.0
#: Warn if the embedded server had to be waited for this long, seconds; with little data it starts in a tenth of that.
LONG_WAIT_SECONDS = 1.0
#: Seconds for which a data loss is reported.
TOLD_SECONDS = 24 * 3600.0
#: Warn if Redis accepts items of more than this many times the size that RLM needs.
FAR = 16
#: Round trips to measure.
PINGS = 20
#: The slowest may take this share of `run.guard_seconds`; the rest is for the call's way to its server.
GUARD_SHARE = 0.5
#: The slowest may always take this long, seconds: below it the measurement shows how busy this host is.
LEAST_SECONDS = 0.05


def check_wait(waited_seconds: float) -> Iterator[Finding]:
    """Check whether the embedded server had to be waited for; opening the store waits for no other."""
    if waited_seconds >= LONG_WAIT_SECONDS:
        message = f"the embedded server answered only after {waited_seconds:.1f} s: it was starting, or busy"
        remedy = "meanwhile nothing is sent; if nobody had stopped it, valkey.log in its directory may say why it ended"
        yield warning(message, remedy, "startup")


def check_redis(store: Store, *, allow_volatile: bool) -> Iterator[Finding]:
    """Check that Redis is reachable and fit to keep the ledger."""
    fitness = check_fitness(store, allow_volatile=allow_volatile)
    yield good(f"reached at {store.address}")
    yield check_transport(store.settings.redis.url)
    yield from fitness.findings
    yield from _check_bulk(store)


def _check_bulk(store: Store) -> Iterator[Finding]:
    """Check the largest item that Redis accepts; yield nothing if this user may not ask, like the documented one."""
    try:
        admitted = store.admitted_bytes()
    except StoreError:
        return
    if admitted is None:
        return
    needed = longest_bulk(store.settings.queue.max_item_bytes)
    message = f"it accepts items of {admitted:,} bytes, RLM needs {needed:,} (proto-max-bulk-len)"
    if admitted > FAR * needed:
        remedy = (
            f"CONFIG SET proto-max-bulk-len {needed}, unless other programs need more: giant items delay all others"
        )
        yield warning(message, remedy, "bulk")
    elif admitted < needed:
        yield warning(message, f"set proto-max-bulk-len to {needed}: a long dead letter would be refused", "bulk")
    else:
        yield good(message, "bulk")


def check_transport(url: str) -> Finding:
    """Return whether the connection is private, by the URL alone: no name is resolved."""
    scheme, _, rest = url.partition("://")
    if url == EMBEDDED or scheme == "unix":
        return good("through a Unix socket of this host", "transport")
    if scheme in {"rediss", "rediss+sentinel"}:
        return good("encrypted, and the server's certificate is checked", "transport")
    places = rest.partition("?")[0].rpartition("@")[2].partition("/")[0].split(",")
    hosts = [urlsplit(f"//{place}").hostname or "localhost" for place in places]
    if others := [host for host in hosts if not _is_loopback(host)]:
        message = f"{', '.join(others)}: password and items go there unencrypted (redis.url is {scheme}://)"
        remedy = "use rediss:// and a user of RLM's own, see docs/security.md, or a private network"
        return warning(message, remedy, "transport")
    return good("through the loopback interface of this host", "transport")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def check_latency(store: Store) -> Finding:
    """Measure round trips to Redis: granting a slot takes one, and the call must arrive within the guard."""
    guard = store.settings.run.guard_seconds
    most = max(GUARD_SHARE * guard, LEAST_SECONDS)
    _ping(store)
    trips = [_ping(store) for _ in range(PINGS)]
    message = f"a round trip takes {_ms(median(trips))}, the worst of {PINGS} took {_ms(max(trips))}"
    if max(trips) <= most:
        return good(f"{message}; up to {_ms(most)} is fine with run.guard_seconds = {guard:g}")
    remedy = (
        "move Redis nearer or make it less busy (SLOWLOG GET, its disk), or set run.guard_seconds to "
        f"{max(trips) / GUARD_SHARE:.2g} or more"
    )
    return warning(f"{message}; more than {_ms(most)} is a lot for run.guard_seconds = {guard:g}", remedy)


def _ping(store: Store) -> float:
    asked_at = system_clock.monotonic()
    store.ping()
    return system_clock.monotonic() - asked_at


def _ms(seconds: float) -> str:
    milliseconds = seconds * 1000
    return f"{milliseconds:.2g} ms" if milliseconds < 10 else f"{milliseconds:,.0f} ms"  # noqa: PLR2004  # two digits


def check_clock(store: Store) -> Finding:
    """Compare the clock of Redis with this host's, excluding the time of the round trip."""
    asked_at = system_clock.now()
    redis_now = store.now()
    ahead = redis_now - min(max(redis_now, asked_at), system_clock.now())
    if abs(ahead) <= CLOCK_SECONDS:
        return good(f"this host and Redis agree to {abs(ahead):.1f} s")
    message = f"the clock of Redis is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this host's"
    return warning(message, "synchronise both by NTP (chrony, systemd-timesyncd)")


def check_memory(store: Store) -> Iterator[Finding]:
    """Check whether Redis lost data or its clock stepped, and whether the next loss would be noticed here."""
    if doubt := store.epochs.doubt():
        yield warning(doubt, EPOCH_REMEDY, "file")
    found, now = store.epochs.last_renewal(), system_clock.now()
    if found is None or now - found.at > TOLD_SECONDS:
        yield good("Redis is not known to have forgotten any call")
        return
    until = _held_until(store, found.at)
    ends = moment(until, now).partition(".")[0]
    yield warning(
        f"{isoformat(found.at)}: {found.why}. Every endpoint {'is' if until > now else 'was'} held until {ends}",
        "find out why (docs/operations.md, under its symptom); RLM cannot bring back events that Redis lost",
    )


def _held_until(store: Store, renewed_at: float) -> float:
    """Return when the last hold ends, in seconds since 1970: the longest period after the end of any call."""
    endpoints = store.endpoints().values()
    limited = all_limited(endpoints)
    longest = max(one.limit.longest_seconds for one in limited) + store.settings.run.guard_seconds
    timeout = max(one.timeout_seconds for one in endpoints)
    now_us, views = store.windows.look(limited)
    held = max(view.held_seconds for view in views.values())  # longer if a limit had a longer period then
    return max(renewed_at + longest + timeout, now_us / 1_000_000 + held if held else 0.0)


class Advisory(NamedTuple):
    """Vulnerabilities, and the first fixed version of each branch. Older branches have them, newer ones do not."""

    server: str
    holes: str
    fixed: tuple[tuple[int, ...], ...]

    def fix_of(self, version: tuple[int, ...]) -> tuple[int, ...] | None:
        """Return the version to upgrade to, in the same branch or the next; None if this version is not affected."""
        of_branch = next((one for one in self.fixed if one[:2] == version[:2]), self.fixed[-1])
        return min(one for one in self.fixed if one > version) if version < of_branch else None


_KIN = "CVE-2025-49844, CVE-2025-46817, CVE-2025-46818, CVE-2025-46819"
#: From the release notes. Older vulnerabilities in scripting (CVE-2024-31449, CVE-2024-46981) are fixed there too.
#: CVE-2025-49844 is called RediShell: GHSA-4789-qfc9-5f9q, and with it GHSA-m8fj-85cg-7vhp,
#: GHSA-qrv7-wcrx-q5jp and GHSA-4c68-q8q8-3g4f. CVE-2025-67733 is GHSA-p876-p7q5-hv2m.
ADVISORIES: Final = (
    Advisory("Redis", _KIN, ((6, 2, 20), (7, 2, 11), (7, 4, 6), (8, 0, 4), (8, 2, 2))),
    Advisory("Valkey", _KIN, ((7, 2, 11), (8, 0, 6), (8, 1, 4))),
    Advisory("Valkey", "CVE-2025-67733", ((7, 2, 12), (8, 0, 7), (8, 1, 6), (9, 0, 3))),
)
_RELEASE = re.compile(r"(\d+)\.(\d+)\.(\d+)(-.*)?", re.ASCII)


def check_advisories(store: Store) -> Finding:
    """Check whether the server's version has a known vulnerability in scripting: RLM's user may load scripts."""
    return known_holes(*identify(store.server_info()))


def identify(info: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name and version of a server; Valkey's `redis_version` is that of a compatible Redis."""
    if "valkey_version" in info:
        return "Valkey", str(info["valkey_version"])
    return "Redis", str(info["redis_version"])


def known_holes(server: str, version: str) -> Finding:
    """Return the finding for a version of a server; nothing is known about a version that is not a release."""
    release = _RELEASE.fullmatch(version)
    numbers = tuple(map(int, release.groups()[:3])) if release else ()
    concerning = [one for one in ADVISORIES if one.server == server] if numbers else []
    fixes = {one.holes: fix for one in concerning if (fix := one.fix_of(numbers))}
    if not fixes:
        return good(f"this RLM knows of no hole in the scripting of {server} {version}")
    return warning(
        f"{server} {version} has known holes that anyone who may run a script can use ({', '.join(fixes)})",
        f"upgrade it to {'.'.join(map(str, max(fixes.values())))} or later, unless your distribution has patched it "
        "under its old version",
    )
