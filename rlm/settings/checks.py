"""Checks of single values: URLs, hosts, limits, headers, tokens. Each returns its value, or raises a ValueError.

RLM puts file, key and (masked) value before the messages, so no message quotes a value that may be secret.

The host of an endpoint's URL is a DNS name, an IPv4 address of four decimal numbers, or an IPv6 address in brackets.
Other forms that some resolvers take for an address (`2130706433`, `0x7f.1`, `127.1`, `[::ffff:127.0.0.1]`, a name that
ends with a dot) are refused, because a second spelling of a server would give it a second window.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, parse_qsl, urlsplit

from rlm.core.endpoint import Limit
from rlm.core.text import cut, safe_line
from rlm.settings.secrets import EMBEDDED, FROM_ENVIRONMENT

#: What a name has.
NAMES = "1 to 100 letters, digits and `_`, `.`, `-`"
#: Headers that RLM sets on every call, or that HTTP derives from the call.
RESERVED_HEADERS = (
    *("Connection", "Content-Length", "Content-Type", "Host", "Idempotency-Key", "Transfer-Encoding", "User-Agent"),
)
#: The longest URL and header that servers accept.
_LONGEST = 8000

_LABEL = "[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST = r"(?:\[[0-9A-Fa-f:.]+\]|[^\[\]@:/?#,]+)(?::[0-9]{1,5})?"
#: The forms of a Redis URL: on TCP, on a Unix socket, by sentinels. redis-py reads an unreadable database as 0.
_REDIS_URLS = re.compile(
    rf"rediss?://(?:[^/?#]*@)?(?:{_HOST}|:[0-9]{{1,5}})?(?:/[0-9]{{0,6}})?|unix://(?:[^/?#]*@)?/[^?]+"
    rf"|rediss?\+sentinel://(?:[^/?#]*@)?{_HOST}(?:,{_HOST})*/[^/?]+(?:/[0-9]{{1,6}})?"
)
#: Its parameters. Those that would turn off the check of certificates are not among them.
_SECONDS = r"(?!0*\.?0*$)[0-9]{1,6}(?:\.[0-9]{1,6})?"
_PARAMETERS = {"socket_timeout": _SECONDS, "socket_connect_timeout": _SECONDS}
_LOGIN = {"db": "[0-9]{1,6}", "username": ".*", "password": ".*"}
_SENTINELS = {"sentinel_username": ".*", "sentinel_password": ".*", "sentinel_tls": "yes|no"}
_TLS = dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"), ".*")


def check_redis_url(url: str) -> str:
    """Check `redis.url` without connecting."""
    if url == EMBEDDED:
        return url
    address, _, query = url.partition("?")
    if not re.fullmatch(r"[!-~]+", url) or not _REDIS_URLS.fullmatch(address):
        raise ValueError(
            f'must be "{EMBEDDED}" or a URL: redis://user:password@host:port/0, rediss://, unix:///path/to/socket, '
            "redis+sentinel://host:port,host:port/service/0; special characters in a password are percent-encoded"
        )
    for host in address.partition("://")[2].partition("/")[0].rpartition("@")[2].split(","):
        _port(_split(f"//{host}"))
    by_sentinels, parameters = "+sentinel" in address, dict(parse_qsl(query, keep_blank_values=True))
    by_tls = address.startswith("rediss") or parameters.get("sentinel_tls") == "yes"
    accepted = {**_PARAMETERS, **(_SENTINELS if by_sentinels else _LOGIN), **(_TLS if by_tls else {})}
    for name, value in parameters.items():
        if name not in accepted or not re.fullmatch(accepted[name], value):
            raise ValueError(
                f"the parameter {cut(safe_line(name), 40)} or its value is not accepted; there are "
                f"{', '.join(accepted)}, and a server's certificate is always checked"
            )
    return url


def check_endpoint_url(url: str) -> str:
    """Check an endpoint's URL and return its normalized form, because a window belongs to the URL.

    Scheme and host are lower-cased, the scheme's default port is removed, and an empty path becomes `/`.
    """
    if not re.fullmatch(rf"[!-~]{{1,{_LONGEST}}}", url):
        raise ValueError(f"a URL is printable ASCII without spaces, of at most {_LONGEST} characters")
    parts = _split(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("must be http:// or https:// and a host")
    if "@" in parts.netloc or "#" in url:
        raise ValueError("must not hold a user, a password (send them in a header) or a fragment (#...)")
    if ("[" in parts.netloc) is not (":" in parts.hostname):
        raise ValueError("the part in brackets must be an IPv6 address, like [2001:db8::1]")
    host, port = check_host(parts.hostname), _port(parts)
    netloc = host if port in (None, {"http": 80, "https": 443}[parts.scheme]) else f"{host}:{port}"
    return parts._replace(netloc=netloc, path=parts.path or "/").geturl()


def check_web_hosts(hosts: list[str]) -> list[str]:
    """Check `web.hosts` and return their normalized forms: names and addresses, without brackets and port."""
    try:
        return [check_host(host.removeprefix("[").removesuffix("]").lower()).strip("[]") for host in hosts]
    except ValueError as error:
        raise ValueError(f"a host is given without scheme and port, as rlm.example.com or 10.0.0.5: {error}") from None


def check_listen(text: str) -> str:
    """Check `web.listen`; whether this host has the address is seen when it is listened on."""
    split_listen(text)
    return text


def split_listen(text: str) -> tuple[str, int]:
    """Return the address and the port of `web.listen`."""
    match = re.fullmatch(r"(\[[!-~]+\]|[!-~]+):([0-9]{1,5})", text)
    if not match or int(match[2]) not in range(65_536):
        raise ValueError("must be ADDRESS:PORT, for example 127.0.0.1:8088 or [::1]:8088")
    return match[1].strip("[]"), int(match[2])


def check_host(host: str) -> str:
    """Return a lower-case host in the form of a URL."""
    last = host.rpartition(".")[2]
    if ":" not in host and not re.fullmatch(r"[0-9]+|0x[0-9a-f]*", last):  # else a resolver takes it for an address
        # The standard has no underscores, but many container names do.
        if len(host) not in range(254) or not re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", host):  # as RFC 1035 says
            raise ValueError("a host is a name of letters, digits and `-`, `_` between dots, or an address")
        return host
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise ValueError("an address is four decimal numbers, like 192.0.2.1, or IPv6, [2001:db8::1]") from None
    if address.is_unspecified:
        raise ValueError("no server has this address; to reach one on this host, write 127.0.0.1 or [::1]")
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.scope_id is not None:
        raise ValueError("an address with a zone (%) is not accepted: it means something else on each host")
    if 1 < int(address) < 1 << 64:  # mapped, compatible or translated; 1 is this host
        raise ValueError(f"this is an IPv4 address in disguise; write {ipaddress.IPv4Address(address.packed[-4:])}")
    return f"[{address}]"


def _split(url: str) -> SplitResult:
    try:
        return urlsplit(url)
    except ValueError:
        raise ValueError("is no URL; write it like http://host:port/path") from None


def _port(parts: SplitResult) -> int | None:
    """Return the port, None for the default. Reading it from `urlsplit` may raise an error that quotes the value."""
    try:
        port = parts.port
    except ValueError:
        port = 0
    if port == 0:
        raise ValueError("the port must be 1 to 65535, and a password percent-encoded")
    return port


def check_limit(text: str) -> str:
    """Check a rate limit."""
    try:
        limit = Limit.parse(text)
    except ValueError:
        raise ValueError('must be a limit above zero, like "30/minute" or "20 per 0.6 second; 1000/hour"') from None
    if max(max(rule.amount, rule.seconds) for rule in limit.rules) > 10**9:
        raise ValueError("a limit has at most 1e9 calls and a period of at most 1e9 seconds, which is 31 years")
    return text


def check_headers(headers: dict[str, str]) -> dict[str, str]:
    """Check configured headers: their names and values."""
    for name, value in headers.items():
        if not re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", name):
            raise ValueError("a header's name has letters, digits and any of !#$%&'*+-.^_`|~")
        if name.title() in RESERVED_HEADERS:
            raise ValueError(f"RLM sets the header {name} itself; reserved are {', '.join(RESERVED_HEADERS)}")
        try:
            _check_source(value) or check_header_text(value)
        except ValueError as error:
            raise ValueError(f"header {name}: {error}") from None
    if len({name.lower() for name in headers}) < len(headers):
        raise ValueError("the same header is here twice, in upper and lower case")
    return headers


def _check_source(value: str) -> bool:
    """Return whether a value names a variable, `env:NAME`; raise a ValueError if NAME cannot be one."""
    names_variable = value.startswith(FROM_ENVIRONMENT)
    if names_variable and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value.removeprefix(FROM_ENVIRONMENT)):
        raise ValueError('must be "env:" and the name of an environment variable, "env:API_TOKEN"')
    return names_variable


def check_header_text(text: str) -> str:
    """Check the text that will be sent as a header's value."""
    if not re.fullmatch(r"[\t -~\x80-\xff]*", text) or len(text) > _LONGEST:
        raise ValueError(f"a header's value is Latin-1 text on one line, of at most {_LONGEST} characters, no controls")
    return text


def check_web_token(token: str) -> str:
    """Check the configured `web.token`: empty, the token itself, or `env:` and the name of a variable."""
    return token if not token or _check_source(token) else check_token_text(token)


def check_token_text(token: str) -> str:
    """Check the token that clients must send. A short one could be guessed."""
    if not re.fullmatch(r"[!-~]{16,200}", token):
        raise ValueError("a token has 16 to 200 visible ASCII characters; `openssl rand -hex 32` makes a good one")
    return token
