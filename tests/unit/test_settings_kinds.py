"""What a setting may hold, and all that is wrong in a table at once."""

from __future__ import annotations

import re

import pytest
from rich.pretty import pretty_repr

from rlm.settings.kinds import REQUIRED, Flaw, Items, Named, Quantity, Section, Setting, Switch, Text, Why, as_tables


def refuse(_):
    raise ValueError("no")


class Inner(Section, frozen=True):
    """A table."""

    name: str = Setting(REQUIRED, "", Text())
    limit: str | None = Setting(None, "", Text())


class Outer(Section, frozen=True):
    """A table with tables."""

    number: float = Setting(1.0, "", Quantity(float, 10, above=True))
    secret: str = Setting("", "", Text(), shown=False)
    words: dict = Setting({}, "", Named(Text(), Text(pattern=re.compile("[a-z]+"))))
    inner: tuple = Setting((), "", Items(Inner, tuple))


def read(kind, value):
    """Return what is read, and what is wrong with it."""
    flaws = []
    return kind.read(value, ("at",), flaws), flaws


@pytest.mark.parametrize(
    ("kind", "value", "as_read"),
    [
        (Text(), "", ""),
        (Text(str.upper), "a", "A"),
        (Quantity(int, 5), 5, 5),
        (Quantity(float, 5), 0, 0.0),
        (Quantity(float, 1, above=True), 1e-300, 1e-300),
        (Switch(), False, False),
        (Items(Text()), [], []),
        (Items(Switch(), tuple), [True], (True,)),
        (Named(Text()), {"a": "b"}, {"a": "b"}),
    ],
)
def test_what_is_allowed(kind, value, as_read):
    """A whole number given for another becomes one."""
    found, flaws = read(kind, value)

    assert (found, type(found)) == (as_read, type(as_read))
    assert not flaws


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (Text(), 1),
        (Text(pattern=re.compile("a")), "a\n"),
        *((Quantity(int, 5), value) for value in (-1, 6, 1.0, True, "1", None)),
        *((Quantity(float, 5, above=True), value) for value in (0, -0.0, 5.1, True, float("nan"), float("inf"), "1")),
        *((Switch(), value) for value in (0, 1, "true")),
        *((Items(Text()), value) for value in ("a", {"a": "b"})),
        *((Named(Text()), value) for value in ("a", ["a"])),
        (Named(Text(), may_be_empty=False), {}),
        (Inner, []),
    ],
)
def test_what_is_not_allowed(kind, value):
    """Nothing is converted: a boolean is no number, and a text is none; NaN is within no bounds."""
    assert read(kind, value) == (None, [Flaw(("at",))])


def test_a_section_has_its_defaults():
    """A table of one is not that of another."""
    one, other = (read(Outer, {})[0] for _ in range(2))

    assert as_tables(one) == {"number": 1.0, "secret": "", "words": {}, "inner": []}
    assert one == other
    assert one.words is not other.words


def test_all_that_is_wrong_is_found_at_once():
    """In the order of the settings, then what is unknown; checks of a whole that is wrong in itself are left out."""
    table = {
        "extra": 1,
        "inner": [{"name": "a", "limit": 5}, {}, 7],
        "words": {"a": 1, "B": "c", "b": "c"},
        "number": "1",
    }

    assert read(Outer, table) == (
        None,
        [
            Flaw(("at", "number")),
            Flaw(("at", "words", "a")),
            Flaw(("at", "words", "B"), of_key=True),
            Flaw(("at", "inner", 0, "limit")),
            Flaw(("at", "inner", 1, "name"), Why.MISSING),
            Flaw(("at", "inner", 2)),
            Flaw(("at", "extra"), Why.UNKNOWN),
        ],
    )
    assert read(Items(Text(), check=refuse), [1])[1] == [Flaw(("at", 0))]


@pytest.mark.parametrize("kind", [Text(refuse), Items(Text(), check=refuse), Named(Text(), check=refuse)])
def test_a_check_says_what_is_wrong(kind):
    """Its words are passed on."""
    value = {Text: "a", Items: ["a"], Named: {"a": "b"}}[type(kind)]

    assert read(kind, value) == (None, [Flaw(("at",), told="no")])


def test_a_section_hides_what_may_be_secret():
    """So neither a log line nor a traceback shows it."""
    found, _ = read(Outer, {"secret": "hunter2", "inner": [{"name": "a"}]})

    assert found.secret == "hunter2"
    assert repr(found) == "Outer(number=1.0, words={}, inner=(Inner(name='a', limit=None),))"
    assert pretty_repr(found) == repr(found), "rich asks msgspec, which knows of no secret"
    assert as_tables(found)["inner"] == [{"name": "a"}], "what has no value is left out"


def test_no_section_is_made_without_its_values():
    """The description of a setting was taken for its value."""
    with pytest.raises(TypeError, match=r"^Outer needs secret, words, inner; "):
        Outer(number=2.0)
