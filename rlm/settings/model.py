"""The sections of the configuration, field by field: what each may be, and its default.

A check returns its value, or raises a ValueError. RLM puts file, key and (masked) value before the messages, so no
message quotes a value that may be secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Annotated, Any, TypeAlias, get_args, get_origin
from urllib.parse import SplitResult, parse_qsl, urlsplit

import msgspec
from msgspec.structs import fields

from rlm.core.endpoint import Limit, Success
from rlm.settings.secrets import EMBEDDED, resolve, resolve_url

#: What a name has.
NAMES = "1 to 100 letters, digits and `_`, `.`, `-`"
#: Headers that RLM sets on every call, or that HTTP derives from the call.
RESERVED_HEADERS = (
    *("Connection", "Content-Length", "Content-Type", "Host", "Idempotency-Key", "Transfer-Encoding", "User-Agent"),
)
#: The longest URL and header that servers accept.
_LONGEST = 8000
PORT = r"(?:6553[0-5]|655[0-2]\d|65[0-4]\d{2}|6[0-4]\d{3}|[0-5]?\d{1,4})"
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]@:/?#,]+)(?::[0-9]{1,5})?"
#: The forms of a Redis URL: on TCP, on a Unix socket, by sentinels. redis-py reads an unreadable database as 0.
_REDIS_URLS = re.compile(
    rf"rediss?://(?:[^/?#]*@)?(?:{_HOST}|:[0-9]{{1,5}})?(?:/[0-9]{{0,6}})?|unix://(?:[^/?#]*@)?/[^?]+"
    rf"|rediss?\+sentinel://(?:[^/?#]*@)?{_HOST}(?:,{_HOST})*/[^/?]+(?:/[0-9]{{1,6}})?"
)


def check_redis_url(url: str) -> str:
    """Check `redis.url` without connecting. No parameter turns off the check of certificates."""
    if url == EMBEDDED:
        return url
    address, _, query = url.partition("?")
    if not re.fullmatch(r"[!-\"$-~]+", url) or not _REDIS_URLS.fullmatch(address):
        raise ValueError(
            f'must be "{EMBEDDED}" or a URL: redis://user:password@host:port/0, rediss://, unix:///path/to/socket, '
            "redis+sentinel://host:port,host:port/service/0; special characters in a password are percent-encoded"
        )
    for host in address.partition("://")[2].partition("/")[0].rpartition("@")[2].split(","):
        _split(f"//{host}")
    accepted = [r"socket_(connect_)?timeout=(?!0*\.?0*$)[0-9]{1,6}(\.[0-9]{1,6})?"]
    login = "(username|password)=.*"
    accepted += [f"sentinel_{login}"] if "+sentinel" in address else ["db=[0-9]{1,6}", login]
    accepted += ["ssl_(ca_certs|ca_path|certfile|keyfile|password)=.*"] if address.startswith("rediss") else []
    if not all(re.fullmatch("|".join(accepted), "=".join(each)) for each in parse_qsl(query, keep_blank_values=True)):
        raise ValueError("a parameter or its value is not accepted; docs/security.md lists those that are")
    return url


def check_endpoint_url(url: str) -> str:
    """Check an endpoint's URL and return its normalized form, because a window belongs to the URL.

    Scheme and host are lower-cased, the scheme's default port is removed, and an empty path becomes `/`.
    """
    if not re.fullmatch(rf"[!-~]{{1,{_LONGEST}}}", url):
        raise ValueError(f"a URL is printable ASCII without spaces, of at most {_LONGEST} characters")
    parts, port = _split(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be http:// or https:// and a host")
    if "@" in parts.netloc or "#" in url:
        raise ValueError("must not hold a user, a password (send them in a header) or a fragment (#...)")
    host = check_host(parts.hostname, in_brackets="[" in parts.netloc)
    netloc = host if port in (None, {"http": 80, "https": 443}[parts.scheme]) else f"{host}:{port}"
    return parts._replace(netloc=netloc, path=parts.path or "/").geturl()


def check_host(host: str, *, in_brackets: bool = False) -> str:
    """Return a lower-case host as a URL has it: a DNS name, an IPv4 address or an IPv6 address in brackets.

    A second spelling of a server would give it a second window. So what only some resolvers take for an address is
    refused (`2130706433`, `0x7f.1`, `127.1`, a name that ends with a dot), as are IPv4 addresses in disguise
    (`[::ffff:127.0.0.1]`), addresses with a zone, and those of no server.
    """
    label = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"  # the standard has no underscores, but many container names do
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        is_number = re.fullmatch(r"[0-9]+|0x[0-9a-f]*", host.rpartition(".")[2])
        is_name = re.fullmatch(rf"{label}(\.{label})*", host) and len(host) in range(254)  # as RFC 1035 says
        is_usual = is_name and not is_number and not in_brackets
    else:
        host, is_long = str(address), isinstance(address, ipaddress.IPv6Address)
        is_odd = address.is_unspecified or "%" in host or (is_long and 1 < int(address) < 1 << 64)
        is_usual = in_brackets is is_long and not is_odd
    if not is_usual:
        raise ValueError(
            "a host is a name of letters, digits and `-`, `_` between dots, an address of four decimal numbers, or an "
            "IPv6 address in brackets; each server has one spelling"
        )
    return f"[{host}]" if in_brackets else host


def _split(url: str) -> tuple[SplitResult, int | None]:
    """Return the parts of a URL and its port, None for the default. The library's errors quote the value."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("is no URL; write it like http://host:port/path, with a port from 1 to 65535")
    return parts, port


def check_headers(headers: Mapping[str, str], environ: Mapping[str, str]) -> None:
    """Check configured headers: their names, and the values that they have in this environment."""
    for name, value in headers.items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            raise ValueError("a header's name has letters, digits and any of !#$%&'*+-.^_`|~")
        if name.title() in RESERVED_HEADERS:
            raise ValueError(f"RLM sets the header {name} itself; reserved are {', '.join(RESERVED_HEADERS)}")
        text = resolve(value, environ)
        if not re.fullmatch(r"[\t -~\x80-\xff]*", text) or len(text) > _LONGEST:
            raise ValueError(f"a header is Latin-1 text on one line, of at most {_LONGEST} characters, no controls")
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("the same header is here twice, in upper and lower case")


#: The highest `workers.max`.
MOST_WORKERS = 1000
#: Raises a ValueError if a value, which may name variables of the environment, is wrong.
Check: TypeAlias = Callable[[Any, Mapping[str, str]], object]


def _may(words: str, check: Check | None = None, **rules: Any) -> msgspec.Meta:
    """Describe what a setting may be: in words, by msgspec's `rules`, and by a `check`."""
    return msgspec.Meta(extra={"allowed": words, "check": check}, **rules)


def _whole(lowest: int, highest: int = 10**9) -> msgspec.Meta:
    return _may(f"a whole number from {lowest} to {highest}", ge=lowest, le=highest)


#: A number's maximum, 1e9 (31 years), is within the range of dates and of Lua's numbers.
Seconds: TypeAlias = Annotated[float, _may("a number of seconds above 0, at most 1e9", gt=0, le=1e9)]
Delay: TypeAlias = Annotated[float, _may("a number of seconds from 0 to 1e9", ge=0, le=1e9)]
Workers: TypeAlias = Annotated[int, _whole(0, MOST_WORKERS)]
Key: TypeAlias = Annotated[
    str, _may("1 to 200 printable characters, no list's or RLM's own", pattern=r"\A[^\x00-\x1f\x7f-\x9f]{1,200}\Z")
]
Rate: TypeAlias = Annotated[
    str, _may('a limit, "30/minute" or "20 per 0.6 second; 1000/hour"', lambda text, _: Limit.parse(text))
]
Url: TypeAlias = Annotated[
    str,
    _may(
        "http:// or https:// and a host, printable ASCII, without user, password and fragment",
        lambda url, environ: check_endpoint_url(resolve_url(url, environ)),
    ),
]
RedisUrl: TypeAlias = Annotated[
    str,
    _may(
        '"embedded" or a URL, redis://, rediss://, unix://, redis+sentinel://',
        lambda url, _: check_redis_url(url),
    ),
]
_Success: TypeAlias = Annotated[Success, _may("a table, { content_type = ..., field = ..., value = ... }")]
#: A name, an IPv4 address, or an IPv6 address with or without brackets.
Host: TypeAlias = Annotated[
    str,
    msgspec.Meta(pattern=r"\A([A-Za-z0-9_-][A-Za-z0-9._-]{0,252}|\[?[0-9A-Fa-f]*:[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]?)\Z"),
]


class Section(msgspec.Struct, frozen=True):
    """A table with known keys."""

    def __repr__(self) -> str:
        """Return its name alone: some of its settings may be secret."""
        return type(self).__name__


class RedisSettings(Section, frozen=True):
    """Where RLM keeps its ledger and finds the audit list."""

    url: RedisUrl = EMBEDDED
    embedded_port: Annotated[int, _whole(0, 65535)] = 0
    prefix: Annotated[str, _may("1 to 50 letters, digits and `_`, `.`, `-`", pattern=r"\A[A-Za-z0-9_.-]{1,50}\Z")] = (
        "rlm"
    )


class QueueSettings(Section, frozen=True):
    """The three lists, and what is taken from them."""

    events: Key = "wallet_audit_events"
    processing: Key = "wallet_audit_processing"
    failed: Key = "wallet_audit_failed"
    max_item_bytes: Annotated[int, _whole(1024, 1 << 26)] = 65536
    dedupe_seconds: Delay = 3600.0


class RunSettings(Section, frozen=True):
    """When runs start and end."""

    window_seconds: Seconds = 180.0
    every_seconds: Seconds = 180.0
    target: Annotated[float, _may("a number above 0, at most 1", gt=0, le=1)] = 0.75
    guard_seconds: Seconds = 0.5
    history: Annotated[int, _whole(1)] = 1000

    def __post_init__(self) -> None:
        if self.window_seconds > self.every_seconds:
            raise ValueError(f"window_seconds must be at most every_seconds, which is {self.every_seconds:g}")

    @property
    def leaving_seconds(self) -> float:
        """A call must leave within so many seconds after its stamp; the rest of the guard is for its travel time."""
        return 0.4 * self.guard_seconds


class WorkersSettings(Section, frozen=True):
    """How many worker processes there may be."""

    min: Workers = 0
    max: Annotated[int, _whole(1, MOST_WORKERS)] = 20
    max_here: Workers = 0
    threads: Annotated[int, _whole(1, 1000)] = 5

    def __post_init__(self) -> None:
        if self.min > self.max:
            raise ValueError(f"min must be at most max, which is {self.max}")


class HostSettings(Section, frozen=True):
    """What a host reports about itself."""

    name: Annotated[str, _may(f"empty, or {NAMES}", pattern=r"\A[A-Za-z0-9_.-]{0,100}\Z")] = ""


class RetrySettings(Section, frozen=True):
    """What happens to a call that failed but may succeed later."""

    max_attempts: Annotated[int, _whole(1, 100)] = 3
    max_runs: Annotated[int, _whole(1)] = 5
    timeout_seconds: Seconds = 10.0


class ArchiveSettings(Section, frozen=True):
    """Where dead letters go once there are more than Redis keeps."""

    directory: Annotated[
        str,
        _may(
            "a path of printable characters, or empty; `~` is not expanded", pattern=r"\A(?!~)[^\x00-\x1f\x7f-\x9f]*\Z"
        ),
    ] = ""


class AlarmSettings(Section, frozen=True):
    """What is a condition by its number."""

    failed: Annotated[int, _whole(0)] = 1000


class WebSettings(Section, frozen=True):
    """The HTTP face, `rlm web`."""

    listen: Annotated[
        str,
        _may(
            "ADDRESS:PORT, for example 127.0.0.1:8088, [::1]:8088 or 0.0.0.0:80",
            pattern=rf"\A(\[[!-~]+\]|[!-~]+):{PORT}\Z",
        ),
    ] = "127.0.0.1:8088"
    token: Annotated[
        str,
        _may(
            "empty, `env:NAME`, or 16 to 200 visible ASCII characters",
            pattern=r"\A(env:[A-Za-z_][A-Za-z0-9_]*|(?!env:)[!-~]{16,200}|)\Z",
        ),
    ] = ""
    hosts: Annotated[list[Host], _may('a list of names and addresses without port, ["rlm.example.com"]')] = (
        msgspec.field(default_factory=list)
    )


class EndpointSettings(Section, frozen=True, kw_only=True):
    """One API address of a type."""

    name: Annotated[str, _may(NAMES, pattern=r"\A[A-Za-z0-9_.-]{1,100}\Z")]
    url: Url
    rate_limit: Rate | None = None
    budget: Annotated[str, _may("the NAME of a table [budgets.NAME]")] | None = None
    timeout_seconds: Seconds | None = None
    headers: Annotated[
        dict[str, str],
        _may(f"a table of texts; reserved are {', '.join(RESERVED_HEADERS)}", check_headers),
    ] = msgspec.field(default_factory=dict)
    success: _Success | None = None


class TypeSettings(Section, frozen=True, kw_only=True):
    """A type of events and the endpoints that take them, the primary first."""

    priority: Annotated[int, _whole(0, 100)] = 1
    share: Annotated[float, _may("a number from 0 to 1", ge=0, le=1)] = 0.0
    processing_seconds: Seconds = 1.0
    rate_limit: Rate | None = None
    success: _Success | None = None
    endpoints: Annotated[
        tuple[EndpointSettings, ...],
        _may("a list of one or more tables, { name = ..., url = ... }, primary first", min_length=1),
    ]

    def __post_init__(self) -> None:
        if not self.rate_limit and any(not each.rate_limit for each in self.endpoints):
            raise ValueError('rate_limit is missing; give a limit such as "30/minute" here, or at each endpoint')
        names = [each.name for each in self.endpoints]
        if len({*names}) < len(names):
            raise ValueError(f"endpoints has the name {max(names, key=names.count)} twice; once is enough")


class BudgetSettings(Section, frozen=True):
    """A limit that several endpoints share."""

    rate_limit: Rate


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
    types: Annotated[dict[str, TypeSettings], _may("one or more tables, [types.NAME]", min_length=1)] = msgspec.field(
        default_factory=dict
    )
    budgets: Annotated[dict[str, BudgetSettings], _may("tables, [budgets.NAME]")] = msgspec.field(default_factory=dict)


class Setting(msgspec.Struct, frozen=True):
    """One setting of a section. `kind` is its type with msgspec's rules; `default` may be NODEFAULT."""

    kind: Any
    default: Any
    allowed: str
    check: Check | None = None

    @property
    def plain(self) -> Any:
        """Its type without the rules."""
        return get_args(self.kind)[0]

    @property
    def section(self) -> type[msgspec.Struct] | None:
        """The section of the table that it is, or of the tables in its list or table; None for a single value."""
        inner = [self.plain, *get_args(self.plain)]
        return next((kind for kind in inner if isinstance(kind, type) and issubclass(kind, msgspec.Struct)), None)


@lru_cache
def settings_of(section: type[msgspec.Struct]) -> Mapping[str, Setting]:
    """Return the settings of a section by key, in their order."""
    settings = {}
    for field in fields(section):
        kind = next(each for each in (field.type, *get_args(field.type)) if get_origin(each) is Annotated)
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        settings[field.name] = Setting(kind, default, **get_args(kind)[1].extra)
    return settings
