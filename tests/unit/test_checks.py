"""Checks of `rlm doctor` for vulnerable servers, for files that others can read, for calls that take longer."""

from __future__ import annotations

import os
import tomllib
from types import SimpleNamespace

import pytest

from rlm.admin.doctor.endpoints import check_times
from rlm.admin.doctor.host import check_file, check_files
from rlm.admin.doctor.server import identify, known_holes
from rlm.core.endpoint import Endpoint, EventType, Limit
from rlm.core.errors import UnsafeError
from rlm.core.expected import MEASURED_CALLS, Measured
from rlm.core.files import claim_directory
from rlm.ledger.fitness import Severity
from rlm.settings import load_settings
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


TYPE = (
    '[types.T]\nrate_limit = "1/second"\nendpoints = [{{ name = "a", url = "http://h/{path}", headers = {headers} }}]'
)
TOKEN = "0123456789abcdef"


@each(
    ("text", "secret"),
    [
        ('[redis]\nurl = "redis://user:pw@h/0"', True),
        ('[redis]\nurl = "redis://h/0?p%61ssword=pw"', True),
        (f'[web]\ntoken = "{TOKEN}"', True),
        (TYPE.format(path="a?api_key=k", headers="{}"), True),
        (TYPE.format(path="a", headers='{ Cookie = "session=1" }'), True),
        (TYPE.format(path="a", headers='{ Authorization = "env:A", X-Team = "audit" }'), False),
        ('[redis]\nurl = "redis://h/0"\n[web]\ntoken = "env:TOKEN"', False),
    ],
)
def test_a_file_with_a_secret_is_not_for_others_to_read(tmp_path, text, secret):
    """The name of a variable is none, nor is a header that says nothing of the kind by its name."""
    # A configuration that others can read
    config = tmp_path / "rlm.toml"
    config.write_text(text)
    config.chmod(0o604)

    settings = load_settings(config, {"A": "a", "TOKEN": TOKEN})
    found = [one for one in check_files(settings) if str(config) in one.message]

    assert [one.ok for one in found] == ([False] if secret else [])


def test_a_file_in_the_place_of_rlms_folder_is_named_as_such(tmp_path):
    """Whatever Redis it is; it is not to be opened to its owner alone, but to be removed. Nothing else is wrong."""
    (tmp_path / ".rlm").touch()
    config = tmp_path / "rlm.toml"
    config.write_text('[redis]\nurl = "redis://h/0"')
    config.chmod(0o600)

    (found,) = (one for one in check_files(load_settings(config, {})) if str(tmp_path) in one.message)

    assert found.severity is Severity.ERROR
    assert " but a file or a link" in found.message
    assert "data of the ledger" not in found.message
    assert "remove it" in found.remedy
    with pytest.raises(UnsafeError, match=r"is not a directory of user \S+ but a file"):
        claim_directory(tmp_path / ".rlm")


@pytest.mark.parametrize(
    ("flag", "why", "remedy"),
    [(os.ST_RDONLY, "its file system is read-only", "mount it for writing"), (0, "its owner (", "chmod 700 ")],
)
def test_why_its_owner_cannot_write_in_a_directory_is_named(tmp_path, monkeypatch, flag, why, remedy):
    """The owner is not sent to the owner."""
    config = tmp_path / "rlm.toml"
    config.write_text('[redis]\nurl = "redis://h/0"')
    config.chmod(0o600)
    (tmp_path / ".rlm").mkdir(0o700)
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(os, "statvfs", lambda _: SimpleNamespace(f_flag=flag))

    (found,) = (one for one in check_files(load_settings(config, {})) if str(tmp_path) in one.message)

    assert why in found.message
    assert found.remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (TYPE.format(path="a", headers='{ Authorization = "env:UNSET" }'), ""),
        (f'[web]\ntoken = "{TOKEN}"\n[run]\ntarget = 7', "and holds a secret"),
        ('[web]\ntoken = "', "and may hold a secret"),
    ],
)
def test_of_a_configuration_that_cannot_be_used_it_is_told_whether_it_holds_a_secret(tmp_path, text, told):
    """A variable that is not set is none; of what is no TOML nobody knows."""
    config = tmp_path / "rlm.toml"
    config.write_text(text)
    config.chmod(0o644)

    found = [one.message for one in check_file(config)]

    assert len(found) == bool(told)
    assert all(told in one for one in found)


ENDPOINT = Endpoint("api", "http://h/api", Limit.parse("30/minute"), 10.0)


def finding(name, configured, *milliseconds):
    store = SimpleNamespace(
        settings=SimpleNamespace(event_types=[EventType(name, 1, configured, (ENDPOINT,))]),
        measures=SimpleNamespace(kept=lambda: {(name, "api"): Measured(milliseconds)}),
    )
    (found,) = check_times(store)
    return found


def test_the_remedy_can_be_written_into_the_file():
    """Whatever the name of the type: its key is written as TOML wants it."""
    remedy = finding("price.check", 2.0, *[500.0] * MEASURED_CALLS).remedy

    assert tomllib.loads(remedy.removeprefix("set ")) == {"types": {"price.check": {"processing_seconds": 0.5}}}


def test_what_is_off_by_little_is_no_matter():
    """A quarter, and a twentieth of a second, are what machines and networks differ by from day to day."""
    calls = [200.0] * MEASURED_CALLS

    assert finding("T", 0.16, *calls).ok
    assert finding("T", 0.25, *calls).ok
    assert finding("T", 0.01, *[55.0] * MEASURED_CALLS).ok
    assert not finding("T", 0.14, *calls).ok
    assert finding("T", 0.4, *calls).ok  # a longer time is cautious, up to twice as long
    assert not finding("T", 0.41, *calls).ok


def test_too_few_calls_tell_nothing():
    """Below as many as plans go by."""
    assert finding("T", 2.0, *[9000.0] * (MEASURED_CALLS - 1)).ok
    assert not finding("T", 2.0, *[9000.0] * MEASURED_CALLS).ok
