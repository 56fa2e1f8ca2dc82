"""Whether the endpoints can be reached: a connection is opened to each, with TLS, and closed; no call is made."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

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

#: How long one connection may take, and all of them together, seconds; so many are opened at once.
EACH_SECONDS: Final = 2.0
ALL_SECONDS: Final = 10.0
AT_ONCE: Final = 32
#: So many addresses have a finding each, and so many endpoints are named of one; of others the number is told.
MOST_FINDINGS: Final = 5
MOST_NAMED: Final = 3

_REMEDY: Final = "start it, or mend its address, its certificate or the way there; calls to it fail until then"


def check_reach(settings: Settings) -> Iterator[Finding]:
    """Tell to which addresses of endpoints no connection can be opened, and why."""
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
        yield warning("reach", f"{address_of(some[0].url)}: {why} ({_named(some)})", _REMEDY)
    if len(failed) > MOST_FINDINGS:
        yield warning("reach", f"and {len(failed) - MOST_FINDINGS:,} more addresses like that", _REMEDY)
    if len(tried) < len(by_target):
        untried = len(by_target) - len(tried)
        yield good("reach", f"{untried:,} of {_addresses(len(by_target))}: there was no time to try")
    elif not failed:
        yield good("reach", f"each can be connected to: {_addresses(len(by_target))}")


def _addresses(number: int) -> str:
    return "1 address" if number == 1 else f"{number:,} addresses"


def _try(opener: Opener, url: str, ends_at: float) -> str | None:
    """Open a connection and close it; return why it could not be opened, None where there was no time to try."""
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
