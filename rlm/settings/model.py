"""The sections of the configuration, field by field. The reference and the file of `rlm init` are made from them."""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

from rlm.settings import addresses, values
from rlm.settings.secrets import EMBEDDED
from rlm.settings.section import Section, described, seconds, settings_of, whole

#: The highest `workers.max`.
MOST_WORKERS: Final = 1000

_NAME = "1 to 100 letters, digits and `_`, `.`, `-`"
_HOST_NAME = r"\A(|[A-Za-z0-9_.-]{1,100})\Z"
_MEDIA_TYPE = r"\A[\w!#$&^.+-]+/[\w!#$&^.+-]+\Z"
_PREFIX = r"\A[A-Za-z0-9_.-]{1,50}\Z"
_PART = "a number from 0 to 1"


def _list_name(meaning: str) -> msgspec.Meta:
    allowed = (
        "1 to 200 printable characters, another name than the other two, not beginning with `redis.prefix` and a colon"
    )
    return described(meaning, allowed, check=values.check_list_name)


class RedisSettings(Section, frozen=True):
    """Where RLM keeps its ledger and finds the audit list."""

    url: Annotated[
        str,
        described(
            "The Redis (or Valkey) that holds the audit list and the ledger. `embedded`: a real Valkey server that RLM "
            "starts itself; its data is in `.rlm` beside the configuration file or, without a file, in the current "
            "directory. `REDIS_URL` sets this, too.",
            '"embedded" or a URL with redis://, rediss://, unix://, redis+sentinel:// or rediss+sentinel://',
            check=addresses.check_redis_url,
        ),
    ] = EMBEDDED
    embedded_port: Annotated[
        int,
        whole(
            "The loopback port on which the embedded server listens for other programs. 0: only on a private Unix "
            "socket.",
            0,
            65535,
        ),
    ] = 0
    prefix: Annotated[
        str,
        described(
            "The beginning of all keys of RLM except the three lists.",
            "1 to 50 letters, digits and `_`, `.`, `-`",
            pattern=_PREFIX,
        ),
    ] = "rlm"


class QueueSettings(Section, frozen=True):
    """The three lists, and what is taken from them."""

    events: Annotated[str, _list_name("The list onto which the audit system pushes items.")] = "wallet_audit_events"
    processing: Annotated[str, _list_name("The drain's staging list; empty between drains.")] = (
        "wallet_audit_processing"
    )
    failed: Annotated[str, _list_name("The list of dead letters.")] = "wallet_audit_failed"
    max_item_bytes: Annotated[int, whole("Items larger than this become dead letters.", 1024, 64 * 1024 * 1024)] = 65536
    dedupe_seconds: Annotated[
        float,
        seconds(
            "How long the id of a completed or failed event is known: seen again, it is dropped as a duplicate.",
            from_zero=True,
        ),
    ] = 3600.0
    failed_max: Annotated[
        int, whole("Dead letters kept on the list; the oldest beyond them are moved to the archive.", 1)
    ] = 100_000


class RunSettings(Section, frozen=True):
    """When runs start and end."""

    window_seconds: Annotated[
        float,
        seconds("The window of a run: by its end every event is settled or a leftover. At most `run.every_seconds`."),
    ] = 180.0
    every_seconds: Annotated[
        float, seconds("Runs start on multiples of this by the clock of Redis (180: every 3 minutes).")
    ] = 180.0
    target: Annotated[
        float,
        described(
            "Plan to be done by this share of the window, where the limits allow; the rest is slack for retries.",
            "a number above 0, at most 1",
            gt=0,
            le=1,
        ),
    ] = 0.75
    guard_seconds: Annotated[
        float,
        seconds(
            "Calls to one endpoint are kept a period plus this apart, for the jitter between here and its server.",
            from_zero=True,
        ),
    ] = 0.5
    history: Annotated[int, whole("Run records kept in Redis; older ones are removed.", 1)] = 1000


class WorkersSettings(Section, frozen=True):
    """How many worker processes there may be."""

    min: Annotated[
        int,
        whole("Worker processes kept between runs, over all hosts. At most `workers.max`.", 0, MOST_WORKERS),
    ] = 0
    max: Annotated[int, whole("The most worker processes, over all hosts.", 1, MOST_WORKERS)] = 20
    max_here: Annotated[
        int,
        whole(
            "The capacity of this host: the most worker processes on it. Hosts share the wanted workers in proportion "
            "to their capacities, which may differ. 0: `workers.max`.",
            0,
            MOST_WORKERS,
        ),
    ] = 0
    threads: Annotated[int, whole("Lanes of a worker process: how many events it can have in flight.", 1, 1000)] = 5


class HostSettings(Section, frozen=True):
    """What a host reports about itself."""

    name: Annotated[
        str,
        described(
            "The name of this host. Set it if several hosts would have the same name, as containers may. Empty: the "
            "host name of the system.",
            f"empty, or {_NAME}",
            pattern=_HOST_NAME,
        ),
    ] = ""


class RetrySettings(Section, frozen=True):
    """What happens to a call that failed but may succeed later."""

    max_attempts: Annotated[int, whole("Attempts of an event in one run; after them it is a leftover.", 1, 100)] = 3
    max_runs: Annotated[
        int, whole("An event that has spent all its attempts in this many runs becomes a dead letter.", 1)
    ] = 5
    timeout_seconds: Annotated[
        float, seconds("How long a call may take, unless its endpoint has a time-out of its own.")
    ] = 10.0


class ArchiveSettings(Section, frozen=True):
    """Where dead letters go once there are more than Redis keeps."""

    directory: Annotated[
        str,
        described(
            "The directory of the archive, on the host of the scheduler: `failed-2026-11.jsonl`, a new file each "
            "month. A relative path starts at the configuration file's directory. Empty: `.rlm/archive`.",
            "a path, or empty",
            check=values.check_directory,
        ),
    ] = ""


class AlarmSettings(Section, frozen=True):
    """What raises an alarm."""

    failed: Annotated[
        int,
        whole(
            "More dead letters than this, after a run that added some: a warning in the log and in Sentry. 0: never.",
            0,
        ),
    ] = 1000


class WebSettings(Section, frozen=True):
    """The HTTP face, `rlm web`."""

    listen: Annotated[
        str,
        described(
            "The address and port on which `rlm web` listens, unless `--host` or `--port` says otherwise. Other than "
            "the loopback interface it needs a token. Port 0 picks a free one.",
            "ADDRESS:PORT, for example 127.0.0.1:8088, [::1]:8088 or 0.0.0.0:80",
            check=addresses.check_listen,
        ),
    ] = "127.0.0.1:8088"
    token: Annotated[
        str,
        described(
            "The token that a program sends in `Authorization: Bearer TOKEN`, or a user enters at `/login`, to read "
            "anything but `/healthz`, and to give orders. Empty: this host reads without one, its browsers may give "
            "orders, and `rlm web` listens on the loopback interface only. `env:NAME`: that variable of `rlm web` has "
            "it.",
            "empty, `env:NAME`, or 16 to 200 visible ASCII characters",
            check=values.check_web_token,
        ),
    ] = ""
    hosts: Annotated[
        list[str],
        described(
            "What the header `Host` may name, with any port, besides `localhost`, loopback addresses and the address "
            "at which the request arrived; others are refused, even for `/healthz`. In a variable, separate them by "
            "commas.",
            'a list of names and addresses without port, ["rlm.example.com"]',
            check=addresses.check_web_hosts,
        ),
    ] = msgspec.field(default_factory=list)


class SuccessSettings(Section, frozen=True):
    """What an answer 2xx must be to be a success."""

    content_type: (
        Annotated[
            str,
            described(
                "Its content type. Parameters, such as a charset, do not matter.",
                'a media type without parameters, "application/json"',
                unset="any",
                pattern=_MEDIA_TYPE,
            ),
        ]
        | None
    ) = None
    field: (
        Annotated[
            str,
            described(
                "A field that its body, a JSON object, must have.", "a text, not empty", unset="none", min_length=1
            ),
        ]
        | None
    ) = None
    value: (
        Annotated[
            str | bool | int | float,
            described(
                "What the field must be; without `field`, the whole JSON.",
                "a text, a number, true or false",
                unset="any",
            ),
        ]
        | None
    ) = None


_SUCCESS = "a table, { content_type = ..., field = ..., value = ... }, each part of which may be left out"


class EndpointSettings(Section, frozen=True, kw_only=True):
    """One API address of a type."""

    name: Annotated[str, described("Its name, in records, log lines and commands.", _NAME, check=values.check_name)]
    url: Annotated[
        str,
        described(
            "Where calls are sent. The window belongs to the URL, so renaming an endpoint keeps it. `${NAME}` stands "
            "for the value of that environment variable, which is masked.",
            "http:// or https:// and a host, printable ASCII, without user, password and fragment",
        ),
    ]
    rate_limit: (
        Annotated[
            str,
            described("Its own limit.", 'a limit such as "30/minute"', unset="the type's", check=values.check_limit),
        ]
        | None
    ) = None
    budget: (
        Annotated[
            str,
            described(
                "The budget that it shares with other endpoints; see [`[budgets.NAME]`](#budgetsname).",
                "the NAME of a table [budgets.NAME]",
                unset="none",
            ),
        ]
        | None
    ) = None
    timeout_seconds: (
        Annotated[float, seconds("How long a call to it may take.", unset="`retry.timeout_seconds`")] | None
    ) = None
    headers: Annotated[
        dict[str, str],
        described(
            "Headers sent with each call; see [Secrets](#secrets).",
            f"a table of texts; reserved are {', '.join(values.RESERVED_HEADERS)}",
            unset="none",
            check=values.check_headers,
        ),
    ] = msgspec.field(default_factory=dict)
    success: (
        Annotated[SuccessSettings, described("What success is, as for a type.", _SUCCESS, unset="the type's")] | None
    ) = None


def _not_empty(endpoints: tuple[EndpointSettings, ...]) -> tuple[EndpointSettings, ...]:
    if not endpoints:
        raise ValueError("a type needs at least one endpoint, { name = ..., url = ... }")
    return endpoints


class TypeSettings(Section, frozen=True, kw_only=True):
    """A type of events and the endpoints that take them."""

    priority: Annotated[
        int,
        whole(
            "Types with a higher priority are served first. It is also the priority of items that have none.", 0, 100
        ),
    ] = 1
    share: Annotated[
        float,
        described(
            "At least this part of a run's calls goes to the type while it has events waiting, whatever its priority, "
            "as far as its endpoints and budgets have slots, so that a type of low priority is never starved for good. "
            "What it does not use goes to the others. All shares together are at most 1.",
            _PART,
            ge=0,
            le=1,
        ),
    ] = 0.0
    processing_seconds: Annotated[float, seconds("How long a call is expected to take; used to plan.")] = 1.0
    rate_limit: (
        Annotated[
            str,
            described(
                "The limit of each of its endpoints that has none of its own, in `limits` notation, whose multiple may "
                "be a fraction. Several limits are joined by `;` and all hold.",
                'a limit such as "30/minute" or "20 per 0.6 second; 1000/hour"',
                unset="required, unless each endpoint has one",
                check=values.check_limit,
            ),
        ]
        | None
    ) = None
    success: (
        Annotated[
            SuccessSettings,
            described(
                "What an answer 2xx must be; another one is a failure like a 5xx, `unexpected_answer`. See "
                "[`success`](#success).",
                _SUCCESS,
                unset="every 2xx is a success",
            ),
        ]
        | None
    ) = None
    endpoints: Annotated[
        tuple[EndpointSettings, ...],
        described(
            "First the primary, then the overflow endpoints.",
            "a list of one or more tables, { name = ..., url = ... }, primary first",
            check=_not_empty,
        ),
    ]


class BudgetSettings(Section, frozen=True):
    """A limit that several endpoints share."""

    rate_limit: Annotated[
        str,
        described(
            "The limit of the calls to all its endpoints together; each endpoint keeps its own limit as well.",
            'a limit such as "60/minute" or "20 per 0.6 second; 1000/hour"',
            check=values.check_limit,
        ),
    ]


def _table(section: type[Section]) -> msgspec.Meta:
    return described(section.__doc__ or "", "a table")


def _some(types: dict[str, Any]) -> dict[str, Any]:
    if not types:
        raise ValueError("must be one or more tables, [types.NAME]; leave `types` out for the built-in ones")
    return types


class Document(Section, frozen=True):
    """The whole configuration as written, with all layers merged."""

    redis: Annotated[RedisSettings, _table(RedisSettings)]
    queue: Annotated[QueueSettings, _table(QueueSettings)]
    run: Annotated[RunSettings, _table(RunSettings)]
    workers: Annotated[WorkersSettings, _table(WorkersSettings)]
    host: Annotated[HostSettings, _table(HostSettings)]
    retry: Annotated[RetrySettings, _table(RetrySettings)]
    archive: Annotated[ArchiveSettings, _table(ArchiveSettings)]
    alarm: Annotated[AlarmSettings, _table(AlarmSettings)]
    web: Annotated[WebSettings, _table(WebSettings)]
    types: Annotated[dict[str, TypeSettings], described("Types", "a table for each of them, [types.NAME]", check=_some)]
    budgets: Annotated[dict[str, BudgetSettings], described("Budgets", "a table for each of them, [budgets.NAME]")] = (
        msgspec.field(default_factory=dict)
    )


#: The sections that have one table each.
SECTIONS: Final[dict[str, type[Section]]] = {
    name: setting.section
    for name, setting in settings_of(Document).items()
    if setting.section is not None and setting.plain is setting.section
}
#: The sections of tables whose names are of the user's choice.
NAMED: Final[dict[str, type[Section]]] = {"types": TypeSettings, "budgets": BudgetSettings}
