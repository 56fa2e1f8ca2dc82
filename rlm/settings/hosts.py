"""Which hosts an endpoint's URL may name: one spelling each, because a window belongs to the URL.

A host is a name of the DNS, an IPv4 address as four decimal numbers, or an IPv6 address in brackets. Whatever else some
resolver would take for an address (`2130706433`, `0x7f.1`, `127.1`, `[::ffff:127.0.0.1]`, `0.0.0.0`, a name with a dot
at its end) is refused: it is another spelling of a server that then had two windows, or hides where calls go.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TypeVar

_Address = TypeVar("_Address", ipaddress.IPv4Address, ipaddress.IPv6Address)

#: A name is no longer than this, says RFC 1035.
_LONGEST_NAME = 253
#: Underscores are no part of the standard, and of many a container's name.
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
#: IPv6 addresses that are IPv4 ones: mapped, compatible (a deprecated spelling) and translated. 64:ff9b::/96 is none of
#: them: where there is no IPv4, it is how such a server is reached.
_DISGUISES = tuple(map(ipaddress.IPv6Network, ("::ffff:0:0/96", "::/96", "::ffff:0:0:0/96")))
#: A last label like this makes a resolver try to read an address.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")


def check_host(host: str) -> str:
    """Return a host, in lower case, as it stands in a URL's authority.

    Raises:
        ValueError: it is none of those that are taken; the message says what to write.
    """
    if ":" in host:
        return f"[{_ipv6(host)}]"
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        return _ipv4(host)
    if host.endswith("."):
        raise ValueError("the host must not end with a dot: without it, it is the same server")
    if len(host) > _LONGEST_NAME or not all(map(_LABEL.fullmatch, host.split("."))):
        raise ValueError(
            "the host must be a name of letters, digits and `-`, `_` between dots, an IPv4 address like 192.0.2.1 or "
            "an IPv6 address like [2001:db8::1]; an international name is written in its xn-- form"
        )
    return host


def _ipv4(host: str) -> str:
    try:
        address = ipaddress.IPv4Address(host)
    except ValueError:
        raise ValueError("an IPv4 address is four decimal numbers from 0 to 255, like 192.0.2.1") from None
    return str(_of_a_server(address))


def _ipv6(host: str) -> str:
    try:
        address = ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError("what stands in brackets must be an IPv6 address, like [2001:db8::1]") from None
    if address.scope_id is not None:
        raise ValueError("an address with a zone (%) is not taken: it means something else on each host")
    numbers = int(address)  # 0 and 1 are no IPv4 address, but none and this host's
    if numbers > 1 and any(address in network for network in _DISGUISES):
        raise ValueError(f"this is an IPv4 address in disguise; write {ipaddress.IPv4Address(address.packed[-4:])}")
    return _of_a_server(address).compressed


def _of_a_server(address: _Address) -> _Address:
    if address.is_unspecified:
        raise ValueError("no server has this address; to reach one on this host write 127.0.0.1 or [::1]")
    return address
