"""Checks of URLs and hosts: of Redis, of an endpoint, of the dashboard. Each check returns the normalized form.

RLM puts file, key and (masked) value before the messages, so no message may quote a value that may be secret.

The host of an endpoint's URL is a DNS name, an IPv4 address of four decimal numbers, or an IPv6 address in brackets.
Other forms that some resolvers take for an address (`2130706433`, `0x7f.1`, `127.1`, `[::ffff:127.0.0.1]`, `0.0.0.0`, a
name that ends with a dot) are refused, because a second spelling of a server would give it a second window.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Sequence
from urllib.parse import SplitResult, parse_qsl, urlsplit

from rlm.settings.secrets import EMBEDDED

_REDIS_SCHEMES = ("redis", "rediss", "unix", "redis+sentinel", "rediss+sentinel")
#: The parameters of a Redis URL, time-outs in seconds; `rediss://` also takes the paths of certificates.
_TIMEOUTS = ("socket_timeout", "socket_connect_timeout")
_REDIS_PARAMETERS = ("db", "username", "password", *_TIMEOUTS)
_TLS_PARAMETERS = ("ssl_ca_certs", "ssl_ca_path", "ssl_certfile", "ssl_keyfile", "ssl_password")
#: The parameters of a URL that names sentinels. User and password before the hosts are those of the primary.
_SENTINEL_PARAMETERS = ("sentinel_username", "sentinel_password", "sentinel_tls", *_TIMEOUTS)
#: Parameters that would make redis-py accept any server.
_TLS_SWITCHES = ("ssl_cert_reqs", "ssl_check_hostname", "ssl_include_verify_flags", "ssl_exclude_verify_flags")
_PORTS = {"http": 80, "https": 443}
_HIGHEST_PORT = 65535
_LONGEST_URL = 8000
_DATABASE = re.compile(r"[0-9]{1,6}")
_PORT = re.compile(r"[0-9]{1,5}")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_VISIBLE_ASCII = re.compile(r"[!-~]+")

#: The longest name that RFC 1035 allows.
_LONGEST_NAME = 253
#: The standard has no underscores, but many container names do.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
#: IPv6 forms of IPv4 addresses: mapped, compatible (deprecated) and translated. 64:ff9b::/96 is allowed, because a
#: network without IPv4 reaches such servers that way.
_DISGUISES = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96")))
#: A resolver takes a name with such a last label for an address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def check_redis_url(url: str) -> str:
    """Check `redis.url` without connecting."""
    if url == EMBEDDED:
        return url
    scheme, separator, rest = url.partition("://")
    if not separator or scheme not in _REDIS_SCHEMES or not rest or not _VISIBLE_ASCII.fullmatch(rest):
        raise ValueError(f'must be "{EMBEDDED}" or a URL with {", ".join(f"{name}://" for name in _REDIS_SCHEMES)}')
    if scheme.endswith("+sentinel"):
        place, _, query = rest.rpartition("@")[2].partition("?")
        hosts, _, path = place.partition("/")
        service, _, database = path.strip("/").partition("/")
        if not service:
            raise ValueError("sentinels are asked for a service: redis+sentinel://host:port,host:port/service/0")
        for sentinel in (_split(f"//{each}") for each in hosts.split(",")):
            if not sentinel.hostname:
                raise ValueError("each sentinel is a host: redis+sentinel://host:port,host:port/service/0")
            _port(sentinel)
        _check_database(database or "0")
        _check_sentinel_parameters(scheme, query)
        return url
    parts = _split(url)
    if scheme == "unix" and not (parts.path.startswith("/") and parts.netloc.rpartition("@")[2] == ""):
        raise ValueError("a Unix socket needs its whole path: unix:///path/to/socket, unix://user:password@/path")
    if scheme != "unix":
        _port(parts)
        _check_database(parts.path.strip("/") or "0")
    _check_parameters(parts.query, (*_REDIS_PARAMETERS, *(_TLS_PARAMETERS if scheme == "rediss" else ())))
    return url


def _check_database(text: str) -> None:
    """Accept only a number, because redis-py reads unreadable text as 0 and `2/3` as 23."""
    if not _DATABASE.fullmatch(text):
        raise ValueError("the database is a whole number from 0 on: redis://host:port/2, unix:///path?db=2")


def _check_sentinel_parameters(scheme: str, query: str) -> None:
    told = dict(parse_qsl(query, keep_blank_values=True))
    by_tls = told.get("sentinel_tls", "yes" if scheme == "rediss+sentinel" else "no")
    if by_tls not in {"yes", "no"}:
        raise ValueError("the parameter sentinel_tls is yes or no: whether connections to the sentinels use TLS")
    tls = scheme == "rediss+sentinel" or by_tls == "yes"
    _check_parameters(query, (*_SENTINEL_PARAMETERS, *(_TLS_PARAMETERS if tls else ())))


def _check_parameters(query: str, known: Sequence[str]) -> None:
    """Accept only parameters of address and user; others change how RLM talks to Redis, or which server it trusts."""
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in _TLS_SWITCHES:
            raise ValueError(
                f"the parameter {name} is not accepted: the server's certificate is always checked; name the CA that "
                "signed it with ssl_ca_certs=/path/to/ca.pem"
            )
        if name not in known:
            raise ValueError(f"may have the parameters {', '.join(known)}, and no others")
        if name == "db":
            _check_database(value)
        elif name in _TIMEOUTS and not (_SECONDS.fullmatch(value) and float(value) > 0):
            raise ValueError(f"the parameter {name} is a number of seconds above 0")


def check_endpoint_url(url: str) -> str:
    """Check an endpoint's URL and return its normalized form, because a window belongs to the URL.

    Scheme and host are lower-cased, the scheme's default port is removed, and an empty path becomes `/`.
    """
    if not _VISIBLE_ASCII.fullmatch(url):
        raise ValueError("a URL is printable ASCII without spaces; percent-encode the rest")
    if len(url) > _LONGEST_URL:
        raise ValueError(f"a URL has at most {_LONGEST_URL} characters, which is what servers accept")
    parts = _split(url)
    if parts.scheme not in _PORTS or not parts.hostname:
        raise ValueError("must be http:// or https:// and a host")
    if "@" in parts.netloc:
        raise ValueError("must not hold a user or password; send them in a header, `env:NAME` keeps its value secret")
    if "#" in url:
        raise ValueError("must not have a fragment (#...): it never reaches the server")
    port = _port(parts)
    if ("[" in parts.netloc) is not (":" in parts.hostname):
        raise ValueError("the part in brackets must be an IPv6 address, like [2001:db8::1]")
    host = check_host(parts.hostname)
    netloc = host if port in (None, _PORTS[parts.scheme]) else f"{host}:{port}"
    return parts._replace(netloc=netloc, path=parts.path or "/").geturl()


def check_web_hosts(hosts: list[str]) -> list[str]:
    """Check `web.hosts` and return their normalized forms: names and addresses, without brackets and port."""
    return [_check_web_host(host) for host in hosts]


def _check_web_host(host: str) -> str:
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not _VISIBLE_ASCII.fullmatch(bare) or "/" in bare:
        raise ValueError("a host is a name or an address, without scheme and port: rlm.example.com, 10.0.0.5")
    if bare.count(":") == 1:
        raise ValueError("give the host without port: any port is allowed")
    return check_host(bare.lower()).strip("[]")


def check_listen(text: str) -> str:
    """Check `web.listen`; whether this host has the address is seen when it is listened on."""
    split_listen(text)
    return text


def split_listen(text: str) -> tuple[str, int]:
    """Return the address and the port of `web.listen`."""
    host, colon, port = text.rpartition(":")
    host = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not (colon and host and _VISIBLE_ASCII.fullmatch(host) and _PORT.fullmatch(port) and int(port) <= _HIGHEST_PORT):
        raise ValueError("must be ADDRESS:PORT, for example 127.0.0.1:8088 or [::1]:8088")
    return host, int(port)


def check_host(host: str) -> str:
    """Return a lower-case host in the form of a URL. If it is not accepted, raise a ValueError with what to write."""
    if ":" in host:
        address: ipaddress.IPv4Address | ipaddress.IPv6Address = _ipv6(host)
    elif _NUMBER.fullmatch(host.rpartition(".")[2]):
        address = _ipv4(host)
    elif host.endswith("."):
        raise ValueError("the host must not end with a dot: without it, it is the same server")
    elif len(host) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, host.split("."))):
        raise ValueError(
            "the host must be a name of letters, digits and `-`, `_` between dots, an IPv4 address like 192.0.2.1 or "
            "an IPv6 address like [2001:db8::1]; an international name is written in its xn-- form"
        )
    else:
        return host
    if address.is_unspecified:
        raise ValueError("no server has this address; to reach one on this host, write 127.0.0.1 or [::1]")
    return f"[{address}]" if address.version == 6 else str(address)  # noqa: PLR2004  # IPv6


def _ipv4(host: str) -> ipaddress.IPv4Address:
    try:
        return ipaddress.IPv4Address(host)
    except ValueError:
        raise ValueError("an IPv4 address is four decimal numbers from 0 to 255, like 192.0.2.1") from None


def _ipv6(host: str) -> ipaddress.IPv6Address:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError("the part in brackets must be an IPv6 address, like [2001:db8::1]") from None
    if address.scope_id is not None:
        raise ValueError("an address with a zone (%) is not accepted: it means something else on each host")
    numbers = int(address)  # 0 (unspecified) and 1 (this host) are in ::/96, but are not IPv4 addresses
    if numbers > 1 and any(address in network for network in _DISGUISES):
        raise ValueError(f"this is an IPv4 address in disguise; write {ipaddress.IPv4Address(address.packed[-4:])}")
    return address


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
        raise ValueError(f"the port must be 1 to {_HIGHEST_PORT}, and a password percent-encoded")
    return port
