"""The Redis users of docs/security.md, created on a real server."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "security.md"
#: The password of each user; recognisable, so that a leak is found.
PASSWORD = "pw-that-nobody-may-see"

_LINE = re.compile(r"^ACL SETUSER (\w+) (.*)$", re.MULTILINE)


def documented_users():
    """The rules of each user on the page."""
    return {name: rules.split() for name, rules in _LINE.findall(PAGE.read_text(encoding="utf-8"))}


def make_users(admin):
    """Make all of them on the server of `admin`, each with `PASSWORD`."""
    for name, rules in documented_users().items():
        make_user(admin, name, rules)


def make_user(admin, name, rules):
    """Make a user by its rules."""
    words = [rule.replace("PASSWORD", PASSWORD) for rule in rules]
    assert admin.execute_command("ACL", "SETUSER", name, *words) == b"OK"


def url_of(url, user):
    """Return the URL of a Unix socket with the login of a user."""
    return url.replace("unix://", f"unix://{user}:{PASSWORD}@")
