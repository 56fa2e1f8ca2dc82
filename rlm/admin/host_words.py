"""Sentences about hosts: which are out of service, and why. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.core.text import safe_line

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What is said where every host that could take workers is out of service.
NO_HOST = "no host takes workers, so nothing is sent: `rlm supervisor drain HOST --off` puts one in service again"


def hosts_unwell(found: Mapping[str, Any]) -> list[str]:
    """Return which hosts are not in service, and why, of a document that has the `hosts`."""
    hosts = found.get("hosts", ())  # a record has none, nor has a status of an older version
    able = [one for one in hosts if one["capacity"]]
    nobody = [NO_HOST] if able and all(one["state"] == "draining" for one in able) else []
    return nobody + [safe_line(f"host {one['host']} is {one['state']}: {one['why']}") for one in hosts if one["why"]]
