"""Sentences about hosts: which are out of service, and why. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.core.text import safe_line

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

#: What is said where every host that could take workers is out of service.
NO_HOST = "no host takes workers, since all are drained, so nothing is sent"


def nobody_takes_workers(hosts: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether hosts could take workers and none does, for all are drained."""
    able = [one for one in hosts if one["capacity"]]
    return bool(able) and all(one["state"] == "draining" for one in able)


def hosts_unwell(found: Mapping[str, Any]) -> list[str]:
    """Return which hosts are not in service, and why, of a document that has the `hosts`."""
    hosts = found.get("hosts", ())  # a record has none, nor has a status of an older version
    told = [f"host {one['host']} is {one['state']}: {one['why']}" for one in hosts if one["why"]]
    return [*([NO_HOST] if nobody_takes_workers(hosts) else []), *map(safe_line, told)]
