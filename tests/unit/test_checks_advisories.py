"""Servers with known holes in scripting are named, by what they say they are."""

from __future__ import annotations

from rlm.admin.doctor.server import identify, known_holes
from tests.each import each

#: What has all of them, RediShell's kin, or the later one of Valkey alone.
KIN, LATER = "CVE-2025-49844", "CVE-2025-67733"


@each(
    ("server", "version", "holes", "least"),
    [
        *(("Redis", version, {KIN}, least) for version, least in [("6.2.19", "6.2.20"), ("7.2.10", "7.2.11")]),
        *(("Redis", version, {KIN}, least) for version, least in [("7.4.5", "7.4.6"), ("8.0.3", "8.0.4")]),
        *(("Redis", version, {KIN}, least) for version, least in [("8.2.1", "8.2.2"), ("6.0.16", "6.2.20")]),
        ("Redis", "7.0.15", {KIN}, "7.2.11"),  # a branch that was not mended
        *(("Redis", version, set(), "") for version in ("6.2.20", "6.2.21", "7.2.11", "7.4.6", "8.0.4", "8.2.2")),
        *(("Redis", version, set(), "") for version in ("8.4.0", "8.10.0", "9.0.0")),
        *(("Valkey", version, {KIN, LATER}, least) for version, least in [("7.2.10", "7.2.12"), ("8.0.5", "8.0.7")]),
        ("Valkey", "8.1.3", {KIN, LATER}, "8.1.6"),
        *(("Valkey", version, {LATER}, least) for version, least in [("7.2.11", "7.2.12"), ("8.0.6", "8.0.7")]),
        *(("Valkey", version, {LATER}, least) for version, least in [("8.1.5", "8.1.6"), ("9.0.2", "9.0.3")]),
        *(("Valkey", version, set(), "") for version in ("7.2.12", "8.0.7", "8.1.6", "9.0.3", "9.1.0", "9.1.2")),
        *(("Redis", version, set(), "") for version in ("255.255.255", "unstable", "")),
        ("KeyDB", "6.3.4", set(), ""),  # of which nothing is known here
    ],
)
def test_versions_with_holes_are_told(server, version, holes, least):
    """With the next version that has none; a branch that was never mended, too."""
    finding = known_holes(server, version)

    assert {hole for hole in (KIN, LATER) if hole in finding.message} == holes
    assert finding.ok is not bool(holes)
    assert not least or finding.remedy.startswith(f"upgrade it to {least} or later, unless your distribution")


def test_a_valkey_is_not_taken_for_the_redis_it_stands_for():
    """It says so as `redis_version`, for clients that want no other."""
    assert identify({"redis_version": "7.2.4", "valkey_version": "9.1.2"}) == ("Valkey", "9.1.2")
    assert identify({"redis_version": "7.2.4"}) == ("Redis", "7.2.4")
