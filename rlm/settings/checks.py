"""Checks of single values: URLs, hosts, limits, headers. Each returns its value, or raises a ValueError.

RLM puts file, key and (masked) value before the messages, so no message quotes a value that may be secret.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from urllib.parse import SplitResult, parse_qsl, urlsplit

from rlm.core.endpoint import Limit
from rlm.settings.secrets import EMBEDDED, resolve

#: What a name has.
NAMES = "1 to 100 letters, digits and `_`, `.`, `-`"
#: Headers that RLM sets on every call, or that HTTP derives from the call.
RESERVED_HEADERS = (
    *("Connection", "Content-Length", "Content-Type", "Host", "Idempotency-Key", "Transfer-Encoding", "User-Agent"),
)
#: The longest URL and header that servers accept.
_LONGEST = 8000
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
    if not re.fullmatch(r"[!-~]+", url) or not _REDIS_URLS.fullmatch(address):
        raise ValueError(
            f'must be "{EMBEDDED}" or a URL: redis://user:password@host:port/0, rediss://, unix:///path/to/socket, '
            "redis+sentinel://host:port,host:port/service/0; special characters in a password are percent-encoded"
        )
    for host in address.partition("://")[2].partition("/")[0].rpartition("@")[2].split(","):
        _split(f"//{host}")
    seconds = r"(?!0*\.?0*$)[0-9]{1,6}(?:\.[0-9]{1,6})?"
    accepted = {"socket_timeout": seconds, "socket_connect_timeout": seconds}
    if "+sentinel" in address:
        accepted |= {"sentinel_username": ".*", "sentinel_password": ".*"}
    else:
        accepted |= {"db": "[0-9]{1,6}", "username": ".*", "password": ".*"}
    if address.startswith("rediss"):
        accepted |= dict.fromkeys(("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password"), ".*")
    if not all(
        re.fullmatch(accepted.get(name, r"(?!)"), text) for name, text in parse_qsl(query, keep_blank_values=True)
    ):
        raise ValueError(f"a parameter or its value is not accepted; there are {', '.join(accepted)}")
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
        host, is_usual = str(address), in_brackets == (address.version == 6) and not address.is_unspecified
        if isinstance(address, ipaddress.IPv6Address):
            is_usual = is_usual and address.scope_id is None and not 1 < int(address) < 1 << 64
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


def check_limit(text: str) -> str:
    """Check a rate limit."""
    try:
        limit = Limit.parse(text)
    except ValueError:
        raise ValueError('must be a limit above zero, like "30/minute" or "20 per 0.6 second; 1000/hour"') from None
    if max(max(rule.amount, rule.seconds) for rule in limit.rules) > 10**9:
        raise ValueError("a limit has at most 1e9 calls and a period of at most 1e9 seconds, which is 31 years")
    return text


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
