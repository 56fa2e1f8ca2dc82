"""This host: its configuration, secrets, directories, and its connections to endpoints and Sentry.

Connections are only opened and closed; nothing is sent.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Final
from urllib.request import getproxies, proxy_bypass

from rlm.core.clock import system_clock
from rlm.core.endpoint import Endpoint, target_of
from rlm.core.errors import UnsafeError
from rlm.core.files import Weakness, require_own, weakness
from rlm.core.tally import address_of
from rlm.core.text import named
from rlm.delivery.connection import Opener, UnreachableError
from rlm.ledger.fitness import Finding, fault, good, warning
from rlm.settings import Settings
from rlm.settings.secrets import EMBEDDED

_OTHERS, _OTHERS_READ = stat.S_IRWXG | stat.S_IRWXO, stat.S_IRGRP | stat.S_IROTH
_REMOUNT = "mount it for writing, or name another directory in RLM_DATA_DIR or archive.directory"

#: Seconds for one connection and for all of them; and connections to open at once.
EACH_SECONDS: Final = 2.0
ALL_SECONDS: Final = 10.0
AT_ONCE: Final = 32
#: Addresses with a finding of their own, and endpoints to name for each; the others are counted.
MOST_FINDINGS: Final = 5
MOST_NAMED: Final = 3

_MEND: Final = "start it, or fix its address, its certificate or the route to it; calls to it fail until then"


def check_configuration(settings: Settings) -> Finding:
    """Report the source and size of the configuration."""
    source = f"file {settings.source}" if settings.source else "the built-in defaults, whose endpoints are examples"
    types, endpoints = len(settings.event_types), len(settings.endpoints)
    return good(f"{source}; {types} types, {endpoints} endpoints, revision {settings.revision}")


def check_files(settings: Settings) -> list[Finding]:
    """Check who may read and change the files of `settings`, as far as they exist."""
    found = [*_closed(settings.source, "is the configuration", secret=False)] if settings.source else []
    found += _closed(settings.home / "Procfile", "has the commands of `rlm up`", secret=False)
    for directory in dict.fromkeys((Path.cwd(), settings.home)):  # `rlm up` reads the one in the first
        found += _closed(directory / ".env", "is for secrets", secret=True)
    is_embedded = settings.redis.url == EMBEDDED
    found += _private(settings.data_dir, f"is for {'the data of the ledger' if is_embedded else 'what RLM keeps here'}")
    found += _private(settings.archive_dir, "is for archived data")
    return found or [good("nobody else can change the configuration or read secrets")]


def _closed(path: Path, what: str, *, secret: bool) -> Iterator[Finding]:
    if not os.path.lexists(path):
        return
    try:
        found = weakness(path)
    except OSError as error:
        found = Weakness(f"it cannot be examined ({error.strerror})", "make that possible, or remove it")
    if found:
        yield fault(f"{path} {what}, so it is refused: {found.what}", found.remedy)
    mode = _mode(path)
    if secret and mode & _OTHERS_READ:
        yield warning(f"{path} {what}: others can read it (mode {mode:03o})", _chmod(600, path))


def _private(directory: Path, what: str) -> Iterator[Finding]:
    try:
        require_own(directory)
    except UnsafeError as error:
        yield fault(f"{error.what}; it {what}, so nothing is written there", error.remedy)
        return
    except OSError:
        return
    mode = _mode(directory)
    if mode & _OTHERS:
        yield warning(f"{directory} {what}, and others can enter it (mode {mode:03o})", _chmod(700, directory))
    if not os.access(directory, os.W_OK | os.X_OK):
        is_fixed = os.statvfs(directory).f_flag & os.ST_RDONLY
        why = "its file system is read-only" if is_fixed else f"its owner ({os.geteuid()}) cannot write there"
        yield warning(f"{directory} {what}, and {why}", _REMOUNT if is_fixed else _chmod(700, directory))


def _chmod(mode: int, path: Path) -> str:
    return f"chmod {mode} {shlex.quote(str(path))}"


def _mode(path: Path) -> int:
    """Return the permissions of a file or directory; 0 if it cannot be examined."""
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return 0


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
        yield warning(f"and {len(failed) - MOST_FINDINGS:,} more such addresses", _MEND)
    addresses = "1 address" if len(by_target) == 1 else f"{len(by_target):,} addresses"
    if untried := told.count(None):
        yield good(f"{untried:,} of {addresses}: there was no time to try")
    elif not failed:
        yield good(f"each can be connected to: {addresses}")


def _try(opener: Opener, url: str, ends_at: float) -> str | None:
    """Open and close a connection; return why that failed, '' if it worked, None if there was no time."""
    seconds = min(EACH_SECONDS, ends_at - system_clock.monotonic())
    if seconds <= 0:
        return None
    try:
        opener.open(url, seconds).close()
    except UnreachableError as error:
        return error.outcome.kind
    return ""


def check_sentry(settings: Settings) -> Finding:
    """Check that the host of the DSN, or its proxy, accepts connections; only host and port are shown."""
    if settings.sentry_dsn is None:
        return good("off: SENTRY_DSN is not set")
    try:
        address, what = _first_hop(settings.sentry_dsn)
    except ValueError:  # its message may quote part of a password
        message = "SENTRY_DSN, or the proxy on the way to Sentry (http_proxy, https_proxy), has an invalid port"
        return warning(message, "correct it, and percent-encode its password; RLM works without it")
    if trouble := _try(Opener(), f"http://{address}", system_clock.monotonic() + EACH_SECONDS):
        remedy = "let this host connect there, or correct SENTRY_DSN; RLM works without it, but errors are not reported"
        return warning(f"{what} {address} cannot be reached: {trouble}", remedy)
    return good(f"{what} {address} can be reached")


def _first_hop(dsn: str) -> tuple[str, str]:
    """Return the host and port to connect to, and what they are."""
    host, _, scheme = target_of(dsn)
    proxy = getproxies().get(scheme, "")
    if not proxy or proxy_bypass(host):
        return address_of(dsn), "the host of SENTRY_DSN"
    return address_of(f"http://{proxy.rpartition('://')[2]}"), "the proxy on the way to Sentry,"
