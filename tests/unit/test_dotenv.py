"""A .env file is read by `rlm up` as a shell reads it, or refused."""

from __future__ import annotations

import subprocess

import pytest

from rlm.settings.layers import parse_dotenv
from tests.each import each


@each(
    "line",
    [
        "A=1",
        "export A=1",
        "A='x y'",
        'A="x y"',
        "A=redis://u:p#w@h:6379/0",  # a password with a number sign
        "A=1 # why",
        "A=''",
        "A=",
        "A=x=y",
        r"A=a\ b",
        "# A=2",
        "",
    ],
)
def test_a_line_means_what_it_means_to_a_shell(tmp_path, line):
    """The other commands get their variables by `set -a; . ./.env`; both have to look at the same Redis."""
    file = tmp_path / ".env"
    file.write_text(f"{line}\n")
    shell = "unset A; set -a; . ./.env; set +a; env"
    told = subprocess.run(["sh", "-c", shell], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert parse_dotenv(file.read_text()) == dict(one.split("=", 1) for one in told.splitlines() if one[:2] == "A=")


@each(
    "line",
    [
        "REDIS_URL redis://secret@h/0",
        "REDIS_URL: redis://secret@h/0",
        "API_AUTHORIZATION=Bearer secret",
        "A='secret",
        "9A=secret",
    ],
)
def test_a_line_that_sets_nothing_a_shell_would_set_is_refused(line):
    """It is not passed over: then the processes would look at another Redis, or send another token. No value shows."""
    with pytest.raises(ValueError, match="line 2") as caught:
        parse_dotenv(f"B=1\n{line}\n")
    assert "secret" not in str(caught.value)
