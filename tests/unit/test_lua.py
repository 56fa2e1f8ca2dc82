"""The Lua scripts keep the house form, and each has its tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rlm.ledger
from tests.each import each

FOLDER = Path(rlm.ledger.__file__).parent / "lua"
TESTS = Path(__file__).parent.parent / "store"
SCRIPTS = sorted(FOLDER.glob("*.lua"), key=lambda path: path.name)
LONGEST = 70

each_script = each("path", SCRIPTS)


def header(path):
    """The comment at the top, line by line, without its dashes."""
    lines = path.read_text().splitlines()
    end = next(index for index, line in enumerate(lines) if not line.startswith("--"))
    return [line.removeprefix("--").strip() for line in lines[:end]]


def code(path):
    """What comes after the header, without comments."""
    lines = path.read_text().splitlines()[len(header(path)) :]
    return "\n".join(re.sub(r"--.*", "", line) for line in lines)


def built(text):
    """The names that are given something else than a key that came in, or more than that."""
    joined = re.sub(r"([=,])\s*\n\s*", r"\1 ", text)
    given = re.findall(r"^\s*(?:local )?([a-z_]+(?:, [a-z_]+)*) = (.+)$", joined, re.MULTILINE)
    return {name for names, value in given if "KEYS[" not in value or ".." in value for name in names.split(", ")}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("local queue = KEYS[1]", set()),
        ("local queue, run_id =\n  KEYS[1],\n  ARGV[1]", set()),
        ("local queue = 'rlm:' .. ARGV[1]", {"queue"}),
        ("if odd then\n  queue = KEYS[1] .. ':odd'\nend", {"queue"}),
    ],
)
def test_this_test_sees_how_a_key_is_built(text, expected):
    """A check that finds nothing is worth something only if it would have found something."""
    assert built(text) == expected


def test_there_are_scripts():
    """Else the other tests would say nothing."""
    assert len(SCRIPTS) > 20


@each_script
def test_its_name_is_a_verb_and_a_noun(path):
    """As everything that calls it is named."""
    assert re.fullmatch(r"[a-z]+_[a-z]+", path.stem)


@each_script
def test_its_first_line_says_what_it_does(path):
    """In one sentence."""
    first = path.read_text().splitlines()[0]

    assert re.fullmatch(r"-- [A-Z].+[^ ]\.", first)


@each_script
def test_its_header_says_what_goes_in_what_comes_out_and_why(path):
    """The keys, what it returns, why it is one script; the arguments where it has any."""
    words = "\n".join(header(path))

    assert re.search(r"^KEYS\b", words, re.MULTILINE)
    assert re.search(r"^Returns  \S", words, re.MULTILINE)
    assert re.search(r"^(Atomic|One script) because .+\.", words, re.MULTILINE)
    assert ("ARGV" in words) == ("ARGV" in code(path))


@each_script
def test_its_header_numbers_its_keys_and_arguments_without_a_gap(path):
    """From 1; those that come in any number are told of in the last line."""
    words = "\n".join(header(path))

    for name in ("KEYS", "ARGV"):
        numbers = [int(number) for number in re.findall(rf"^{name}\[(\d+)", words, re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1))


@each_script
def test_it_builds_no_key_and_looks_for_none(path):
    """All keys come in as KEYS: that is what makes them known, and the script fit for a proxy."""
    keys = {key.strip() for key in re.findall(r"redis\.p?call\('(?!INFO')[A-Z0-9]+', *([^,)]+)", code(path))}

    assert all(re.fullmatch(r"[a-z_]+|KEYS\[[^.]+\]", key) for key in keys), keys
    assert not keys & built(code(path)), "it is put together here"
    assert not re.search(r"'(KEYS|SCAN|FLUSHALL|FLUSHDB)'", code(path))


@each_script
def test_it_is_short(path):
    """One verb fits on a page."""
    assert len(path.read_text().splitlines()) <= LONGEST


@each_script
def test_it_has_a_test_file(path):
    """On the real servers."""
    assert (TESTS / f"test_{path.stem}.py").is_file()
