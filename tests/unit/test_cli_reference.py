"""docs/commands.md says what the commands say of themselves."""

from __future__ import annotations

from pathlib import Path

from rlm.cli.common import ExitCode
from rlm.cli.group import COMMANDS, OVERVIEW
from tests.commands_page import _EXITS, commands_reference

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"


def test_page_is_up_to_date():
    """docs/commands.md is what `commands_reference` returns; write it there when a command changes."""
    assert PAGE.read_text(encoding="utf-8") == commands_reference()


def test_every_command_has_its_place_in_the_overview():
    """Once; what is there twice, or nowhere, would be listed twice, or last."""
    placed = [name for names in OVERVIEW.values() for name in names]

    assert len(placed) == len(set(placed))
    assert set(COMMANDS) - set(placed) == set()


def test_every_exit_code_has_words():
    """Those of `ExitCode`, no more and no less."""
    assert set(_EXITS) == set(ExitCode)
