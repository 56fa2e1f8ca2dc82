"""Known holes in the scripting of Redis and Valkey: by most of them, who may run a script can take the server over.

RLM's own user may load scripts, so its password is worth that much on a server with such a hole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rlm.admin.doctor.findings import good, warning

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rlm.ledger import Store
    from rlm.ledger.fitness import Finding

Version = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Advisory:
    """Holes and the first version of each branch without them. Older branches have them, newer ones do not."""

    server: str
    holes: str
    fixed: tuple[Version, ...]

    def concerns(self, server: str, version: Version) -> bool:
        """Return whether this version of a server has the holes."""
        if server != self.server:
            return False
        fixed = next((one for one in self.fixed if one[:2] == version[:2]), max(self.fixed))
        return version < fixed


#: By their release notes. What was found in scripting before 2025 (CVE-2024-31449, CVE-2024-46981) is fixed in these
#: versions, too. CVE-2025-49844 is called RediShell: GHSA-4789-qfc9-5f9q, and with it GHSA-m8fj-85cg-7vhp,
#: GHSA-qrv7-wcrx-q5jp and GHSA-4c68-q8q8-3g4f. CVE-2025-67733 is GHSA-p876-p7q5-hv2m.
ADVISORIES: Final = (
    Advisory(
        "Redis",
        "CVE-2025-49844, CVE-2025-46817, CVE-2025-46818, CVE-2025-46819",
        ((6, 2, 20), (7, 2, 11), (7, 4, 6), (8, 0, 4), (8, 2, 2)),
    ),
    Advisory(
        "Valkey",
        "CVE-2025-49844, CVE-2025-46817, CVE-2025-46818, CVE-2025-46819",
        ((7, 2, 11), (8, 0, 6), (8, 1, 4)),
    ),
    Advisory("Valkey", "CVE-2025-67733", ((7, 2, 12), (8, 0, 7), (8, 1, 6), (9, 0, 3))),
)


def check_advisories(store: Store) -> Iterator[Finding]:
    """Look whether the server's version is known to have a hole in its scripting."""
    yield judge(*identify(store.server_info()))


def identify(info: Mapping[str, Any]) -> tuple[str, str]:
    """Return the name and version of a server; Valkey says as its `redis_version` which Redis it stands for."""
    if "valkey_version" in info:
        return "Valkey", str(info["valkey_version"])
    return "Redis", str(info["redis_version"])


def judge(server: str, version: str) -> Finding:
    """Return what is known of a version of a server."""
    name = "advisories"
    numbers = _numbers(version)
    found = [one for one in ADVISORIES if numbers and one.concerns(server, numbers)]
    if not found:
        return good(name, f"no hole in the scripting of {server} {version} is known to this RLM")
    holes = ", ".join(one.holes for one in found)
    message = f"{server} {version} is known for holes that whoever may run a script can use ({holes})"
    least = max(_remedy(one, numbers) for one in found if numbers)
    upgrade = f"upgrade it to {'.'.join(map(str, least))} or later"
    return warning(name, message, f"{upgrade}, unless your distribution has patched it under its old version")


def _remedy(advisory: Advisory, version: Version) -> Version:
    """Return the version to upgrade to: of the same branch, or of the next that was mended."""
    return min(one for one in advisory.fixed if one > version)


def _numbers(version: str) -> Version | None:
    """Return a version as numbers, None if it is no release that can be compared."""
    parts = version.partition("-")[0].split(".")
    numbers = [int(part) for part in parts if part.isdecimal()]
    return (numbers[0], numbers[1], numbers[2]) if len(numbers) == len(parts) == 3 else None  # noqa: PLR2004  # x.y.z
