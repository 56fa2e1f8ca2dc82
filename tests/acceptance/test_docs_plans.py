"""The answers of `rlm plan` on the pages are its real answers."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm

DOCS = Path(__file__).parents[2] / "docs"
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("page", "command", "tables"),
    [
        ("quickstart.md", "rlm plan --count REBALANCE_NEEDED=120 --add-endpoint REBALANCE_NEEDED=another_api", 2),
        (
            "quickstart.md",
            (
                "rlm plan --count REBALANCE_NEEDED=1500 --set types.REBALANCE_NEEDED.rate_limit=600/minute"
                " --set workers.max=2"
            ),
            2,
        ),
    ],
)
def test_a_plan_that_is_shown_is_the_one_that_is_made(tmp_path, monkeypatch, valkey_only_url, page, command, tables):
    """With the first `tables` of the page as the configuration; a line `...` stands for any that are left out."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", valkey_only_url)
    blocks = _BLOCK.findall((DOCS / page).read_text(encoding="utf-8"))
    (tmp_path / "rlm.toml").write_text("\n".join([block for kind, block in blocks if kind == "toml"][:tables]))
    below = iter(blocks)
    assert any(kind == "sh" and command in block.splitlines() for kind, block in below), command
    shown = next(block for kind, block in below if kind == "text")

    done = CliRunner().invoke(rlm, shlex.split(command)[1:])

    assert done.exit_code == 0, done.output
    pattern = "".join("(?:.*\n)*" if line == "..." else f"{re.escape(line)}\n" for line in shown.splitlines())
    assert re.fullmatch(f"{pattern}(?:.*\n)*", done.stdout), done.stdout
