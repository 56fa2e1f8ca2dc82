"""The sections of the configuration, field by field: what each may be, its meaning, its default.

The reference in the documentation and the file of `rlm init` are made from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, TypeAlias, get_args, get_origin

import msgspec
from msgspec.structs import asdict, fields

from rlm.settings import checks
from rlm.settings.secrets import EMBEDDED

#: The highest `workers.max`.
MOST_WORKERS = 1000


def _may(words: str, check: Callable[[Any], Any] = lambda value: value, **rules: Any) -> msgspec.Meta:
    """Describe what a setting may be: in words, by msgspec's `rules`, and by a `check` that returns it or raises."""
    return msgspec.Meta(extra={"allowed": words, "check": check}, **rules)


def _whole(lowest: int, highest: int = 10**9) -> msgspec.Meta:
    return _may(f"a whole number from {lowest} to {highest}", ge=lowest, le=highest)


#: A number's maximum, 1e9 (31 years), is within the range of dates and of Lua's numbers.
Seconds: TypeAlias = Annotated[float, _may("a number of seconds above 0, at most 1e9", gt=0, le=1e9)]
Delay: TypeAlias = Annotated[float, _may("a number of seconds from 0 to 1e9", ge=0, le=1e9)]
Key: TypeAlias = Annotated[
    str, _may("1 to 200 printable characters, no list's or RLM's own", pattern=r"\A[^\x00-\x1f\x7f-\x9f]{1,200}\Z")
]
Name: TypeAlias = Annotated[str, _may(checks.NAMES, pattern=r"\A[A-Za-z0-9_.-]{1,100}\Z")]
Rate: TypeAlias = Annotated[str, _may('a limit, "30/minute" or "20 per 0.6 second; 1000/hour"', checks.check_limit)]


class Section(msgspec.Struct, frozen=True):
    """A table with known keys."""

    def __repr__(self) -> str:
        """Return its settings without those that may be secret."""
        shown = {key: value for key, value in asdict(self).items() if key not in {"url", "token", "headers"}}
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in shown.items())})"


class RedisSettings(Section, frozen=True):
    """Where RLM keeps its ledger and finds the audit list."""

    url: Annotated[
        str,
        _may('"embedded" or a URL, redis://, rediss://, unix://, redis+sentinel://', checks.check_redis_url),
        "The Redis (or Valkey) that holds the audit list and the ledger. `embedded`: a Valkey server that RLM starts "
        "itself, its data in `.rlm` beside the configuration file (else in the current directory). Also `REDIS_URL`.",
    ] = EMBEDDED
    embedded_port: Annotated[
        int, _whole(0, 65535), "Loopback port of the embedded server for other programs. 0: only a private Unix socket."
    ] = 0
    prefix: Annotated[
        str,
        _may("1 to 50 letters, digits and `_`, `.`, `-`", pattern=r"\A[A-Za-z0-9_.-]{1,50}\Z"),
        "The beginning of all keys of RLM except the three lists.",
    ] = "rlm"


class QueueSettings(Section, frozen=True):
    """The three lists, and what is taken from them."""

    events: Annotated[Key, "The list onto which the audit system pushes items."] = "wallet_audit_events"
    processing: Annotated[Key, "The drain's staging list; empty between drains."] = "wallet_audit_processing"
    failed: Annotated[Key, "The list of dead letters."] = "wallet_audit_failed"
    max_item_bytes: Annotated[int, _whole(1024, 1 << 26), "Items larger than this become dead letters."] = 65536
    dedupe_seconds: Annotated[Delay, "How long a completed or failed event's id is known, to drop duplicates."] = 3600.0


class RunSettings(Section, frozen=True):
    """When runs start and end."""

    window_seconds: Annotated[
        Seconds, "By then every event of a run is settled or a leftover. At most `run.every_seconds`."
    ] = 180.0
    every_seconds: Annotated[Seconds, "Runs start on multiples of this (180: every 3 minutes)."] = 180.0
    target: Annotated[
        float,
        _may("a number above 0, at most 1", gt=0, le=1),
        "Plan to be done by this share of the window, where the limits allow; the rest is slack for retries.",
    ] = 0.75
    guard_seconds: Annotated[
        Delay, "Calls to an endpoint are a period plus this apart, for the jitter on the way to its server."
    ] = 0.5
    history: Annotated[int, _whole(1), "Run records kept in Redis."] = 1000


class WorkersSettings(Section, frozen=True):
    """How many worker processes there may be."""

    min: Annotated[int, _whole(0, MOST_WORKERS), "Worker processes kept between runs, over all hosts."] = 0
    max: Annotated[int, _whole(1, MOST_WORKERS), "The most worker processes, over all hosts."] = 20
    max_here: Annotated[
        int, _whole(0, MOST_WORKERS), "The most on this host; hosts share by these capacities. 0: `workers.max`."
    ] = 0
    threads: Annotated[int, _whole(1, 1000), "Lanes of a worker process: events it can have in flight."] = 5


class HostSettings(Section, frozen=True):
    """What a host reports about itself."""

    name: Annotated[
        str,
        _may(f"empty, or {checks.NAMES}", pattern=r"\A[A-Za-z0-9_.-]{0,100}\Z"),
        "The name of this host, if the system's is not unique, as in containers. Empty: the system's.",
    ] = ""


class RetrySettings(Section, frozen=True):
    """What happens to a call that failed but may succeed later."""

    max_attempts: Annotated[int, _whole(1, 100), "Attempts of an event in a run; after them it is a leftover."] = 3
    max_runs: Annotated[int, _whole(1), "After so many runs with all attempts spent it is a dead letter."] = 5
    timeout_seconds: Annotated[Seconds, "How long a call may take, unless its endpoint says otherwise."] = 10.0


class ArchiveSettings(Section, frozen=True):
    """Where dead letters go once there are more than Redis keeps."""

    directory: Annotated[
        str,
        _may(
            "a path of printable characters, or empty; `~` is not expanded", pattern=r"\A(?!~)[^\x00-\x1f\x7f-\x9f]*\Z"
        ),
        "The directory of `failed-2026-11.jsonl`, a new file each month, on the scheduler's host. A relative path "
        "starts at the configuration file's directory. Empty: `.rlm/archive`.",
    ] = ""


class AlarmSettings(Section, frozen=True):
    """What is a condition by its number."""

    failed: Annotated[int, _whole(0), "More dead letters than this are an error. 0: never."] = 1000


class WebSettings(Section, frozen=True):
    """The HTTP face, `rlm web`."""

    listen: Annotated[
        str,
        _may("ADDRESS:PORT, for example 127.0.0.1:8088, [::1]:8088 or 0.0.0.0:80", checks.check_listen),
        "Where `rlm web` listens. Other than the loopback interface needs a token. Port 0 picks a free one.",
    ] = "127.0.0.1:8088"
    token: Annotated[
        str,
        _may("empty, `env:NAME`, or 16 to 200 visible ASCII characters", checks.check_web_token),
        "What a program sends in `Authorization: Bearer TOKEN`, or a user enters at `/login`, to read anything but "
        "`/healthz`, and to give orders. Empty: only the loopback interface, where everybody may. `env:NAME`: a "
        "variable of `rlm web` has it.",
    ] = ""
    hosts: Annotated[
        list[str],
        _may('a list of names and addresses without port, ["rlm.example.com"]', checks.check_web_hosts),
        "What the header `Host` may name besides `localhost`, loopback addresses and the address at which the request "
        "arrived. In a variable, separate them by commas.",
    ] = msgspec.field(default_factory=list)


class SuccessSettings(Section, frozen=True):
    """What an answer 2xx must be to be a success; each part may be left out."""

    content_type: Annotated[
        Annotated[str, _may('a media type, "application/json"', pattern=r"\A[\w!#$&^.+-]+/[\w!#$&^.+-]+\Z")] | None,
        "Its content type; parameters, such as a charset, do not matter.",
    ] = None
    field: Annotated[
        Annotated[str, _may("a text, not empty", min_length=1)] | None, "A field that its JSON object must have."
    ] = None
    value: Annotated[
        Annotated[str | bool | int | float, _may("a text, a number, true or false")] | None,
        "What the field must be; without `field`, the whole JSON.",
    ] = None


Success: TypeAlias = Annotated[SuccessSettings, _may("a table, { content_type = ..., field = ..., value = ... }")]


class EndpointSettings(Section, frozen=True, kw_only=True):
    """One API address of a type."""

    name: Annotated[Name, "Its name, in records, log lines and commands."]
    url: Annotated[
        str,
        _may("http:// or https:// and a host, printable ASCII, without user, password and fragment"),
        "Where calls are sent. The window belongs to the URL, so renaming an endpoint keeps it. `${NAME}` stands for "
        "the value of that environment variable, which is masked.",
    ]
    rate_limit: Annotated[Rate | None, "Its own limit; else the type's."] = None
    budget: Annotated[
        Annotated[str, _may("the NAME of a table [budgets.NAME]")] | None,
        "The budget that it shares with other endpoints; see [`[budgets.NAME]`](#budgetsname).",
    ] = None
    timeout_seconds: Annotated[Seconds | None, "How long a call to it may take; else `retry.timeout_seconds`."] = None
    headers: Annotated[
        dict[str, str],
        _may(f"a table of texts; reserved are {', '.join(checks.RESERVED_HEADERS)}", checks.check_headers),
        "Headers sent with each call; see [Secrets](#secrets).",
    ] = msgspec.field(default_factory=dict)
    success: Annotated[Success | None, "What success is; else as for the type."] = None


class TypeSettings(Section, frozen=True, kw_only=True):
    """A type of events and the endpoints that take them."""

    priority: Annotated[int, _whole(0, 100), "Higher ones are served first; also that of items that have none."] = 1
    share: Annotated[
        float,
        _may("a number from 0 to 1", ge=0, le=1),
        "At least this part of a run's calls goes to the type while it has events waiting, whatever its priority, as "
        "far as its endpoints and budgets have slots. All shares together are at most 1.",
    ] = 0.0
    processing_seconds: Annotated[Seconds, "How long a call is expected to take; used to plan."] = 1.0
    rate_limit: Annotated[
        Rate | None,
        "The limit of each of its endpoints that has none of its own, in `limits` notation, whose multiple may be a "
        "fraction. Several limits are joined by `;` and all hold.",
    ] = None
    success: Annotated[Success | None, "What a 2xx must be to be one; see [`success`](#success)."] = None
    endpoints: Annotated[
        tuple[EndpointSettings, ...],
        _may("a list of one or more tables, { name = ..., url = ... }, primary first", min_length=1),
        "First the primary, then the overflow endpoints.",
    ]


class BudgetSettings(Section, frozen=True):
    """A limit that several endpoints share."""

    rate_limit: Annotated[Rate, "The limit of the calls to all its endpoints together, beside their own."]


_TABLE = _may("a table")


class Document(Section, frozen=True, kw_only=True):
    """The whole configuration as written, with all layers merged."""

    redis: Annotated[RedisSettings, _TABLE] = RedisSettings()
    queue: Annotated[QueueSettings, _TABLE] = QueueSettings()
    run: Annotated[RunSettings, _TABLE] = RunSettings()
    workers: Annotated[WorkersSettings, _TABLE] = WorkersSettings()
    host: Annotated[HostSettings, _TABLE] = HostSettings()
    retry: Annotated[RetrySettings, _TABLE] = RetrySettings()
    archive: Annotated[ArchiveSettings, _TABLE] = ArchiveSettings()
    alarm: Annotated[AlarmSettings, _TABLE] = AlarmSettings()
    web: Annotated[WebSettings, _TABLE] = msgspec.field(default_factory=WebSettings)
    types: Annotated[dict[str, TypeSettings], _may("one or more tables, [types.NAME]", min_length=1)]
    budgets: Annotated[dict[str, BudgetSettings], _may("tables, [budgets.NAME]")] = msgspec.field(default_factory=dict)


class Setting(msgspec.Struct, frozen=True):
    """One setting of a section. `kind` is its type with msgspec's rules; `default` may be NODEFAULT."""

    kind: Any
    default: Any
    meaning: str
    allowed: str
    check: Callable[[Any], Any]

    @property
    def plain(self) -> Any:
        """Its type without the rules."""
        return get_args(self.kind)[0]

    @property
    def section(self) -> type[Section] | None:
        """The section of the table that it is, or of the tables in its list or table; None for a single value."""
        inner = [self.plain, *get_args(self.plain)]
        return next((kind for kind in inner if isinstance(kind, type) and issubclass(kind, Section)), None)


@lru_cache
def settings_of(section: type[Section]) -> Mapping[str, Setting]:
    """Return the settings of a section by key, in their order."""
    settings = {}
    for field in fields(section):
        kind, *notes = get_args(field.type)
        meaning = notes.pop() if isinstance(notes[-1], str) else ""
        kind = Annotated[kind, *notes] if notes else next(each for each in get_args(kind) if get_origin(each))
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        settings[field.name] = Setting(kind, default, meaning, **get_args(kind)[1].extra)
    return settings


#: The sections that have one table each.
SECTIONS: dict[str, type[Section]] = {
    key: setting.section
    for key, setting in settings_of(Document).items()
    if setting.section is not None and setting.plain is setting.section
}
