"""The Lua scripts follow the house form, and each has its tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import rlm.ledger
from rlm.ledger.scripts import SOURCES
from tests.each import each

FOLDER = Path(rlm.ledger.__file__).parent / "lua"
TESTS = Path(__file__).parent.parent / "store"
LONGEST = 120
#: A name for a key, or what a released call has of it; or an event's.
KEY = re.compile(
    r"[a-z_]+|KEYS\[[^.]+\]|(of|slot|one)\.[a-z]+|unpack\([a-z]+|hashes\[index\]|family \.\. [a-z_]+(\[\d\])?"
)


def sections(path):
    """The sections of a file by their titles."""
    _, *parts = re.split(r"^--- (\w+)\n", path.read_text(), flags=re.MULTILINE)
    return dict(zip(parts[::2], parts[1::2], strict=True))


FILES = {path.stem: sections(path) for path in sorted(FOLDER.iterdir())}
SECTIONS = {name: text for file in FILES.values() for name, text in file.items()}
USED = {name for text in SECTIONS.values() for name in re.findall(r"-- include (\w+)", text)}
INCLUDES = {name: text for name, text in SECTIONS.items() if name in USED}
SCRIPTS = {name: text for name, text in SECTIONS.items() if name not in USED}

each_script = each("name", sorted(SCRIPTS))


def header(text):
    """The comment at the top, line by line, without its dashes."""
    lines = text.splitlines()
    end = next(index for index, line in enumerate(lines) if not line.startswith("--"))
    return [line.removeprefix("--").strip() for line in lines[:end]]


def code(name):
    """Return the code after the header, with all includes, without comments."""
    lines = SOURCES[name].decode().splitlines()[len(header(SCRIPTS[name])) :]
    return "\n".join(re.sub(r"--.*", "", line) for line in lines)


def built(text):
    """Return the names that are built from a key, or are not keys that were passed in."""
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
    assert set(SCRIPTS) == set(SOURCES)
    assert sum(map(len, FILES.values())) == len(SECTIONS), "a name twice"


@each("file", sorted(FILES.keys() - {"include"}))
def test_the_scripts_of_a_module_are_in_the_file_of_its_name(file):
    """So one finds what a call does, and who calls it."""
    module = (FOLDER.parent / f"{file}.py").read_text()

    assert all(f'"{name}"' in module for name in FILES[file].keys() & SCRIPTS.keys())


@each_script
def test_its_name_is_a_verb_and_a_noun(name):
    """As everything that calls it is named."""
    assert re.fullmatch(r"[a-z]+_[a-z]+", name)


@each_script
def test_its_first_line_says_what_it_does(name):
    """In one sentence."""
    first = SCRIPTS[name].splitlines()[0]

    assert re.fullmatch(r"-- [A-Z].+[^ ]\.", first)


@each_script
def test_its_header_says_what_goes_in_what_comes_out_and_why(name):
    """The keys, what it returns, why it is one script; the arguments where it has any."""
    words = "\n".join(header(SCRIPTS[name]))

    assert re.search(r"^KEYS\b", words, re.MULTILINE)
    assert re.search(r"^Returns  \S", words, re.MULTILINE)
    assert re.search(r"^(Atomic|One script) because .+\.", words, re.MULTILINE)
    assert ("ARGV" in words) == ("ARGV" in code(name))


@each_script
def test_its_header_numbers_its_keys_and_arguments_without_a_gap(name):
    """From 1; those that come in any number are told of in the last line."""
    words = "\n".join(header(SCRIPTS[name]))

    for kind in ("KEYS", "ARGV"):
        numbers = [int(number) for number in re.findall(rf"^{kind}\[(\d+)", words, re.MULTILINE)]
        assert numbers == list(range(1, len(numbers) + 1))


@each_script
def test_it_builds_no_key_and_looks_for_none(name):
    """All keys come in as KEYS, or in what a conductor has released; that of an event is its family's and its id."""
    keys = {key.strip() for key in re.findall(r"redis\.p?call\('(?!INFO')[A-Z0-9]+', *([^,)]+)", code(name))}

    assert all(map(KEY.fullmatch, keys)), keys
    assert not keys & built(code(name)), "it is put together here"
    assert not re.search(r"'(KEYS|SCAN|FLUSHALL|FLUSHDB)'", code(name))


@each_script
def test_it_is_short(name):
    """One verb fits on a page."""
    assert len(SCRIPTS[name].splitlines()) <= LONGEST


@each_script
def test_it_has_a_test_file(name):
    """On the real servers."""
    assert (TESTS / f"test_{name}.py").is_file()


def test_what_is_included_says_what_it_does_and_what_it_takes_and_gives():
    """Its first line does, then come the names that it uses and those that there are from there on."""
    for name, text in INCLUDES.items():
        words = header(text)

        assert re.fullmatch(r"[A-Z].+[^ ]\.", words[0]), name
        assert re.search(r"^(Uses|Gives) +\S", "\n".join(words[1:]), re.MULTILINE), name


def test_what_is_included_is_where_it_says():
    """Nothing of `include.lua` is left unused, and no script has a line left that includes something."""
    assert set(FILES["include"]) <= USED
    assert not any(b"-- include" in source for source in SOURCES.values())


def test_what_scripts_share_stands_in_one_place():
    """The fence, the trail and what a record of a change looks like are written once."""
    for shared in ("FENCED by another", "'trail', 1", '"from":', "'PEXPIRE', event"):
        assert sum(text.count(shared) for text in SCRIPTS.values()) <= 1, shared
