"""Length and commas spare most items two checks: of their depth, and for fields that are there twice."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rlm.core.item import MAX_DEPTH, BadItemError, Item, Reason, decode_item

FIELDS = {"id": "a-1", "wallet_name": "w", "events": ["A"], "priority": 5}
EVENTS = st.lists(st.sampled_from("ABC"), min_size=1, max_size=4)
TEXTS = st.text(',:"[]{}\\i', max_size=4)
UNKNOWN = TEXTS | st.lists(TEXTS, max_size=3) | st.dictionaries(TEXTS | st.sampled_from([*FIELDS]), TEXTS, max_size=2)
SELDOM = st.integers(0, 7).map((0).__eq__)


def written(name, value, gap, *, escaped):
    """Return a field as JSON, `escaped` with the first letter of its name by its number."""
    start = f"\\u{ord(name[0]):04x}" if escaped else name[0]
    return f'"{start}{json.dumps(name)[2:]}{gap}:{gap}{json.dumps(value)}'


@st.composite
def fields_of_items(draw):
    """Return the fields of an item in any order: good ones, some of which are there twice, and unknown ones."""
    good = [*({**FIELDS, "events": draw(EVENTS)}).items()]
    again = [(name, draw(EVENTS) if name == "events" else value) for name, value in good if draw(SELDOM)]
    unknown = draw(st.lists(st.tuples(TEXTS.map("x{}".format), UNKNOWN), max_size=3))
    return draw(st.permutations([*good, *again, *unknown]))


@given(fields_of_items(), st.sampled_from(["", " ", "\n"]), st.data())
def test_a_field_twice_is_found_whatever_else_an_item_holds(fields, gap, data):
    """Commas and names in texts and in nested values, and names written with escapes, neither hide nor feign one."""
    names = [name for name, _ in fields]
    twice = [name for name in FIELDS if names.count(name) > 1]
    parts = [written(name, value, gap, escaped=data.draw(SELDOM)) for name, value in fields]
    raw = f"{{{f'{gap},'.join(parts)}}}".encode()

    if not twice:
        assert decode_item(raw, len(raw)) == Item("a-1", "w", tuple(dict.fromkeys(dict(fields)["events"])), 5)
        return
    with pytest.raises(BadItemError, match=f"^{twice[0]} is there twice") as caught:
        decode_item(raw, len(raw))
    assert caught.value.reason is Reason.BAD_VALUE


@pytest.mark.parametrize(("levels", "reason"), [(MAX_DEPTH, Reason.NOT_OBJECT), (MAX_DEPTH + 1, Reason.TOO_DEEP)])
def test_the_shortest_array_that_is_too_deep_is_too_deep(levels, reason):
    """Nothing but brackets: no shorter text nests as deep."""
    with pytest.raises(BadItemError) as caught:
        decode_item(b"[" * levels + b"]" * levels, 1000)

    assert caught.value.reason is reason
