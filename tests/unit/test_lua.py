"""The scripts of the ledger say what goes in, what comes out, and why each is one step."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rlm.ledger
from rlm.ledger.scripts import SOURCES

FOLDER = Path(rlm.ledger.__file__).parent / "lua"
TEXT = "".join(path.read_text() for path in sorted(FOLDER.iterdir()))
SCRIPTS = dict(re.findall(r"^--- ([a-z_]+)(\([^)]*\)\n(?:--[^\n]*\n)+)", TEXT, re.MULTILINE))


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_its_header_names_its_parameters_its_answer_and_why_it_is_atomic(name):
    signature, _, words = SCRIPTS[name].partition(")\n")

    for parameter in re.findall(r"[a-z_]+(?=[,;:)\n]|$)", re.sub(r": (number|json)", "", signature)):
        assert re.search(rf"^-- (.+, )?{parameter}\b", words, re.MULTILINE), parameter
    assert re.search(r"^-- Returns  +\S", words, re.MULTILINE)
    assert re.search(r"^-- (Atomic|One script) because .+", words, re.MULTILINE)


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_no_line_to_include_is_left(name):
    assert b"-- include" not in SOURCES[name]
