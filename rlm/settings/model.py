"""The sections of the configuration, field by field. The reference and the files of `rlm init` are made from them."""

from __future__ import annotations

import re
from typing import Final

from rlm.settings import addresses, values
from rlm.settings.kinds import REQUIRED, Items, Named, Quantity, Section, Text
from rlm.settings.secrets import EMBEDDED
from rlm.settings.values import list_name, seconds, setting, switch, whole

#: The highest `workers.max`.
MOST_WORKERS: Final = 1000

NAME: Final = Text(values.check_name)
_LIMIT = Text(values.check_limit)
_PART = Quantity(float, 1)


class RedisSettings(Section, frozen=True):
    """Where RLM keeps its ledger and finds the audit list."""

    url: str = setting(
        EMBEDDED,
        "The Redis (or Valkey) that holds the audit list and the ledger. `embedded`: a real Valkey server that RLM "
        "starts itself; its data is in `.rlm` beside the configuration file or, without a file, in the current "
        "directory. `REDIS_URL` sets this, too.",
        allowed='"embedded" or a URL with redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://',
        kind=Text(addresses.check_redis_url),
        shown=False,
    )
    embedded_port: int = whole(
        0,
        "The loopback port on which the embedded server listens for other programs. 0: only on a private Unix socket.",
        lowest=0,
        highest=65535,
    )
    prefix: str = setting(
        "rlm",
        "The beginning of all keys of RLM except the three lists.",
        allowed="1 to 50 letters, digits and `_`, `.`, `-`",
        kind=Text(pattern=re.compile(r"[A-Za-z0-9_.-]{1,50}")),
    )


class QueueSettings(Section, frozen=True):
    """The three lists, and what is taken from them."""

    events: str = list_name("wallet_audit_events", "The list onto which the audit system pushes items.")
    processing: str = list_name("wallet_audit_processing", "The drain's staging list; empty between drains.")
    failed: str = list_name("wallet_audit_failed", "The list of dead letters.")
    max_item_bytes: int = whole(
        65536, "Items larger than this become dead letters.", lowest=1024, highest=64 * 1024 * 1024
    )
    dedupe_seconds: float = seconds(
        3600.0,
        "How long the id of a completed or failed event is known: seen again, it is dropped as a duplicate.",
        from_zero=True,
    )
    failed_max: int = whole(
        100_000, "Dead letters kept on the list; when a run has closed, the oldest beyond them are archived.", lowest=1
    )
    failed_max_bytes: int = whole(
        256 * 1024 * 1024,
        "Bytes of Redis' memory that these dead letters may take; the oldest beyond that are archived as well.",
        lowest=1_000_000,
        highest=10**12,
    )
    failed_alarm: int = whole(
        1000,
        "More dead letters than this, after a run that added some, raise an alarm: a warning in the log and in Sentry. "
        "0: never.",
        lowest=0,
    )
    failed_alarm_share: float = setting(
        0.1,
        "The same if a run settled five events or more as dead letters, and more than this part of all that it "
        "settled. Events refused by an endpoint whose refusals raised an alarm are not counted. 0: never.",
        allowed="a number from 0 to 1",
        kind=_PART,
    )


class RunSettings(Section, frozen=True):
    """When runs start and end."""

    window_seconds: float = seconds(
        180.0, "The window of a run: by its end every event is settled or a leftover. At most `run.every_seconds`."
    )
    every_seconds: float = seconds(
        180.0, "Runs start on multiples of this by the clock of Redis (180: every 3 minutes)."
    )
    target: float = setting(
        0.75,
        "Plan to be done by this share of the window, where the limits allow; the rest is slack for retries.",
        allowed="a number above 0, at most 1",
        kind=Quantity(float, 1, above=True),
    )
    guard_seconds: float = seconds(
        0.5,
        "Calls to one endpoint are kept a period plus this apart, for the jitter between here and its server.",
        from_zero=True,
    )
    history: int = whole(
        1000, "Run records kept in Redis; when a run has closed, the oldest beyond them are archived.", lowest=1
    )


class WorkersSettings(Section, frozen=True):
    """How many worker processes there may be."""

    min: int = whole(
        0, "Worker processes kept between runs, over all hosts. At most `workers.max`.", lowest=0, highest=MOST_WORKERS
    )
    max: int = whole(20, "The most worker processes, over all hosts.", lowest=1, highest=MOST_WORKERS)
    max_here: int = whole(
        0,
        "The capacity of this host: the most worker processes on it. Hosts share the wanted workers in proportion to "
        "their capacities, which may differ. 0: `workers.max`.",
        lowest=0,
        highest=MOST_WORKERS,
    )
    threads: int = whole(5, "Lanes of a worker process: how many events it can have in flight.", lowest=1, highest=1000)


class HostSettings(Section, frozen=True):
    """What a host reports about itself. It may differ between hosts."""

    name: str = setting(
        "",
        "The name of this host. Set it if several hosts would have the same name, as containers may. Empty: the host "
        "name of the system.",
        allowed="empty, or 1 to 100 letters, digits and `_`, `.`, `-`",
        kind=Text(values.check_host_name),
    )
    labels: dict[str, str] = setting(
        {},
        "Labels shown beside the name of this host, such as its zone. In an environment variable: `zone=a,rack=7`.",
        allowed="a table of at most 16 texts of 1 to 50 printable characters, without `=` and `,`",
        kind=Named(Text(), check=values.check_labels),
        unset="none",
    )


class RetrySettings(Section, frozen=True):
    """What happens to a call that failed but may succeed later."""

    max_attempts: int = whole(3, "Attempts of an event in one run; after them it is a leftover.", lowest=1, highest=100)
    max_runs: int = whole(
        5, "An event that has spent all its attempts in this many runs becomes a dead letter.", lowest=1
    )
    timeout_seconds: float = seconds(10.0, "How long a call may take, unless its endpoint has a time-out of its own.")


class ArchiveSettings(Section, frozen=True):
    """Where run records and dead letters go once there are more than Redis keeps."""

    directory: str = setting(
        "",
        "The directory of the archive, on the host of the scheduler: `records-2026-11.jsonl` and "
        "`failed-2026-11.jsonl`, new ones each month. A relative path starts at the configuration file's directory. "
        "Empty: `.rlm/archive`.",
        allowed="a path, or empty",
        kind=Text(values.check_directory),
    )


class WebSettings(Section, frozen=True):
    """The HTTP face, `rlm web`."""

    token: str = setting(
        "",
        "The token that a program sends in `Authorization: Bearer TOKEN`, or a user enters at `/login`, to read "
        "anything but `/healthz`, and to give orders. Empty: this host reads without one, its browsers may give "
        "orders, and `rlm web` listens on the loopback interface only. `env:NAME`: that variable of `rlm web` has it.",
        allowed="empty, `env:NAME`, or 16 to 200 visible ASCII characters",
        kind=Text(values.check_web_token),
        shown=False,
    )
    hosts: list[str] = setting(
        [],
        "What the header `Host` may name, with any port, besides `localhost`, loopback addresses and the address at "
        "which the request arrived; others are refused, even for `/healthz`. In a variable, separate them by commas.",
        allowed='a list of names and addresses without port, ["rlm.example.com"]',
        kind=Items(Text(addresses.check_web_host)),
    )
    read_only: bool = switch(
        "Whether the dashboard and the JSON are read-only: every request that would change something is refused."
    )


class EndpointSettings(Section, frozen=True):
    """One API address of a type."""

    name: str = setting(
        REQUIRED,
        "Its name, in records, log lines and commands.",
        allowed="1 to 100 letters, digits and `_`, `.`, `-`",
        kind=NAME,
    )
    url: str = setting(
        REQUIRED,
        "Where calls are sent. The window belongs to the URL, so renaming an endpoint keeps it.",
        allowed="http:// or https:// and a host, printable ASCII, without user, password and fragment",
        kind=Text(addresses.check_endpoint_url),
    )
    rate_limit: str | None = setting(
        None, "Its own limit.", allowed='a limit such as "30/minute"', unset="the type's", kind=_LIMIT
    )
    budget: str | None = setting(
        None,
        "The budget that it shares with other endpoints; see [`[budgets.NAME]`](#budgetsname).",
        allowed="the NAME of a table [budgets.NAME]",
        kind=NAME,
        unset="none",
    )
    timeout_seconds: float | None = seconds(None, "How long a call to it may take.", unset="`retry.timeout_seconds`")
    headers: dict[str, str] = setting(
        {},
        "Headers sent with each call; see [Secrets in headers](#secrets-in-headers).",
        allowed=f"a table of texts; reserved are {', '.join(values.RESERVED_HEADERS)}",
        kind=Named(Text(values.check_header_value), Text(values.check_header_name), check=values.check_headers),
        unset="none",
    )


def _not_empty(endpoints: tuple[EndpointSettings, ...]) -> tuple[EndpointSettings, ...]:
    if not endpoints:
        raise ValueError("a type needs at least one endpoint, { name = ..., url = ... }")
    return endpoints


class TypeSettings(Section, frozen=True):
    """A type of events and the endpoints that take them."""

    priority: int = whole(
        1,
        "Types with a higher priority are served first. It is also the priority of items that have none.",
        lowest=0,
        highest=100,
    )
    share: float = setting(
        0.0,
        "At least this part of a run's calls goes to the type while it has events waiting, whatever its priority, as "
        "far as its endpoints and budgets have slots, so that a type of low priority is never starved for good. What "
        "it does not use goes to the others. All shares together are at most 1.",
        allowed="a number from 0 to 1",
        kind=_PART,
    )
    processing_seconds: float = seconds(1.0, "How long a call is expected to take; used to plan.")
    rate_limit: str | None = setting(
        None,
        "The limit of each of its endpoints that has none of its own, in `limits` notation, whose multiple may be a "
        "fraction. Several limits are joined by `;` and all hold.",
        allowed='a limit such as "30/minute" or "20 per 0.6 second; 1000/hour"',
        kind=_LIMIT,
        unset="required, unless each endpoint has one",
    )
    endpoints: tuple[EndpointSettings, ...] = setting(
        REQUIRED,
        "First the primary, then the overflow endpoints.",
        allowed="a list of one or more tables, { name = ..., url = ... }, primary first",
        kind=Items(EndpointSettings, tuple, check=_not_empty),
    )


class BudgetSettings(Section, frozen=True):
    """A limit that several endpoints share."""

    rate_limit: str = setting(
        REQUIRED,
        "The limit of the calls to all its endpoints together; each endpoint keeps its own limit as well.",
        allowed='a limit such as "60/minute" or "20 per 0.6 second; 1000/hour"',
        kind=_LIMIT,
    )
