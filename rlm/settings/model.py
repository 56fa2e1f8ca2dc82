"""The sections of the configuration, field by field. The reference and the files of `rlm init` are made from them."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, BaseModel, ConfigDict

from rlm.settings import addresses, values
from rlm.settings.secrets import EMBEDDED
from rlm.settings.values import list_name, seconds, setting, switch, whole

#: The highest `workers.max`.
MOST_WORKERS: Final = 1000

Name = Annotated[str, AfterValidator(values.check_name)]
Directory = Annotated[str, AfterValidator(values.check_directory)]
ListName = Annotated[str, AfterValidator(values.check_list_name)]
RateLimit = Annotated[str, AfterValidator(values.check_limit)]
HeaderName = Annotated[str, AfterValidator(values.check_header_name)]
HeaderValue = Annotated[str, AfterValidator(values.check_header_value)]
HeaderTable = Annotated[dict[HeaderName, HeaderValue], AfterValidator(values.check_headers)]
RedisURL = Annotated[str, AfterValidator(addresses.check_redis_url)]
Labels = Annotated[dict[str, str], AfterValidator(values.check_labels)]
HostName = Annotated[str, AfterValidator(values.check_host_name)]
WebHost = Annotated[str, AfterValidator(addresses.check_web_host)]
WebToken = Annotated[str, AfterValidator(values.check_web_token)]
EndpointURL = Annotated[str, AfterValidator(addresses.check_endpoint_url)]


class Section(BaseModel):
    """The base of all sections: exact types, no unknown keys, immutable."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)


class RedisSettings(Section):
    """Where RLM keeps its ledger and finds the audit list."""

    url: RedisURL = setting(
        EMBEDDED,
        "The Redis (or Valkey) that holds the audit list and the ledger. `embedded`: a real Valkey server that RLM "
        "starts itself; its data is in `.rlm` beside the configuration file or, without a file, in the current "
        "directory. `REDIS_URL` sets this, too.",
        allowed='"embedded" or a URL with redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://',
        repr=False,
    )
    embedded_port: int = whole(
        0,
        "The loopback port on which the embedded server listens for other programs. 0: only on a private Unix socket.",
        lowest=0,
        highest=65535,
    )
    wait_replicas: int = whole(
        0,
        "How many replicas must have a slot, an answer or a pushed item before RLM acts on it, so that a fail-over "
        "cannot lose it. With fewer replicas nothing is sent. 0: RLM waits for no replica, and after a fail-over "
        "that lost slots every endpoint rests.",
        lowest=0,
        highest=16,
    )
    wait_milliseconds: int = whole(
        1000,
        "How long the replicas of `redis.wait_replicas` may take; if they take longer, RLM acts as if Redis were away.",
        lowest=1,
        highest=4000,
    )
    prefix: str = setting(
        "rlm",
        "The beginning of all keys of RLM except the three lists.",
        allowed="1 to 50 letters, digits and `_`, `.`, `-`",
        pattern=r"^[A-Za-z0-9_.-]{1,50}$",
    )


class QueueSettings(Section):
    """The three lists, and what is taken from them."""

    events: ListName = list_name("wallet_audit_events", "The list onto which the audit system pushes items.")
    processing: ListName = list_name("wallet_audit_processing", "The drain's staging list; empty between drains.")
    failed: ListName = list_name("wallet_audit_failed", "The list of dead letters.")
    max_item_bytes: int = whole(
        65536, "Items larger than this become dead letters.", lowest=1024, highest=64 * 1024 * 1024
    )
    dedupe_seconds: float = seconds(
        3600.0,
        "How long the id of a completed or failed event is known: seen again, it is dropped as a duplicate.",
        from_zero=True,
    )
    compress: bool = switch(
        "Whether waiting items are compressed, to take about a third less of Redis' memory. Versions of RLM without "
        "this setting cannot read them: no worker of such a version may run while any waits, even once this is off."
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
        ge=0,
        le=1,
    )


class RunSettings(Section):
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
        gt=0,
        le=1,
    )
    guard_seconds: float = seconds(
        0.5,
        "Calls to one endpoint are kept a period plus this apart, for the jitter between here and its server.",
        from_zero=True,
    )
    history: int = whole(
        1000, "Run records kept in Redis; when a run has closed, the oldest beyond them are archived.", lowest=1
    )


class WorkersSettings(Section):
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


class HostSettings(Section):
    """What a host reports about itself. It may differ between hosts."""

    name: HostName = setting(
        "",
        "The name of this host. Set it if several hosts would have the same name, as containers may. Empty: the host "
        "name of the system.",
        allowed="empty, or 1 to 100 letters, digits and `_`, `.`, `-`",
    )
    labels: Labels = setting(
        {},
        "Labels shown beside the name of this host, such as its zone. In an environment variable: `zone=a,rack=7`.",
        allowed="a table of at most 16 texts of 1 to 50 printable characters, without `=` and `,`",
        unset="none",
    )


class RetrySettings(Section):
    """What happens to a call that failed but may succeed later."""

    max_attempts: int = whole(3, "Attempts of an event in one run; after them it is a leftover.", lowest=1, highest=100)
    max_runs: int = whole(
        5, "An event that has spent all its attempts in this many runs becomes a dead letter.", lowest=1
    )
    timeout_seconds: float = seconds(10.0, "How long a call may take, unless its endpoint has a time-out of its own.")


class ArchiveSettings(Section):
    """Where run records and dead letters go once there are more than Redis keeps."""

    directory: Directory = setting(
        "",
        "The directory of the archive, on the host of the scheduler: `records-2026-11.jsonl` and "
        "`failed-2026-11.jsonl`, new ones each month. A relative path starts at the configuration file's directory. "
        "Empty: `.rlm/archive`.",
        allowed="a path, or empty",
    )


class WebSettings(Section):
    """The HTTP face, `rlm web`."""

    token: WebToken = setting(
        "",
        "The token that a program sends in `Authorization: Bearer TOKEN`, or a user enters at `/login`, to read "
        "anything but `/healthz`, and to give orders. Empty: this host reads without one, its browsers may give "
        "orders, and `rlm web` listens on the loopback interface only. `env:NAME`: that variable of `rlm web` has it.",
        allowed="empty, `env:NAME`, or 16 to 200 visible ASCII characters",
        repr=False,
    )
    hosts: list[WebHost] = setting(
        [],
        "What the header `Host` may name, with any port, besides `localhost`, loopback addresses and the address at "
        "which the request arrived; others are refused, even for `/healthz`. In a variable, separate them by commas.",
        allowed='a list of names and addresses without port, ["rlm.example.com"]',
    )
    read_only: bool = switch(
        "Whether the dashboard and the JSON are read-only: every request that would change something is refused. "
        "`rlm web --read-only` does the same."
    )


class EndpointSettings(Section):
    """One API address of a type."""

    name: Name = setting(
        ..., "Its name, in records, log lines and commands.", allowed="1 to 100 letters, digits and `_`, `.`, `-`"
    )
    url: EndpointURL = setting(
        ...,
        "Where calls are sent. The window belongs to the URL, so renaming an endpoint keeps it.",
        allowed="http:// or https:// and a host, printable ASCII, without user, password and fragment",
    )
    rate_limit: RateLimit | None = setting(
        None, "Its own limit.", allowed='a limit such as "30/minute"', unset="the type's"
    )
    budget: Name | None = setting(
        None,
        "The budget that it shares with other endpoints; see [`[budgets.NAME]`](#budgetsname).",
        allowed="the NAME of a table [budgets.NAME]",
        unset="none",
    )
    timeout_seconds: float | None = seconds(None, "How long a call to it may take.", unset="`retry.timeout_seconds`")
    headers: HeaderTable = setting(
        {},
        "Headers sent with each call; see [Secrets in headers](#secrets-in-headers).",
        allowed=f"a table of texts; reserved are {', '.join(values.RESERVED_HEADERS)}",
        unset="none",
    )


def _not_empty(endpoints: tuple[EndpointSettings, ...]) -> tuple[EndpointSettings, ...]:
    if not endpoints:
        raise ValueError("a type needs at least one endpoint, { name = ..., url = ... }")
    return endpoints


class TypeSettings(Section):
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
        ge=0,
        le=1,
    )
    processing_seconds: float = seconds(1.0, "How long a call is expected to take; used to plan.")
    rate_limit: RateLimit | None = setting(
        None,
        "The limit of each of its endpoints that has none of its own, in `limits` notation, whose multiple may be a "
        "fraction. Several limits are joined by `;` and all hold.",
        allowed='a limit such as "30/minute" or "20 per 0.6 second; 1000/hour"',
        unset="required, unless each endpoint has one",
    )
    endpoints: Annotated[tuple[EndpointSettings, ...], AfterValidator(_not_empty)] = setting(
        ...,
        "First the primary, then the overflow endpoints.",
        allowed="a list of one or more tables, { name = ..., url = ... }, primary first",
        strict=False,
    )


class BudgetSettings(Section):
    """A limit that several endpoints share."""

    rate_limit: RateLimit = setting(
        ...,
        "The limit of the calls to all its endpoints together; each endpoint keeps its own limit as well.",
        allowed='a limit such as "60/minute" or "20 per 0.6 second; 1000/hour"',
    )
