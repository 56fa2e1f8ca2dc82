"""docs/contract.md agrees with the intake's own decoder about each item on the page."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from rlm.core.item import BadItemError, Item, Reason, decode_item, encode_letter, event_id
from rlm.settings import load_settings

PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text(encoding="utf-8")
SETTINGS = load_settings(None, {})
#: The configured types, without which an event is of an unknown one.
KNOWN = {one.name for one in SETTINGS.event_types}


def section(title):
    return PAGE.partition(f"\n### {title}\n")[2].partition("\n##")[0]


def table(title):
    """Yield the rows of the table under a heading, each cell without its backticks."""
    rows = [line for line in section(title).splitlines() if line.startswith("| `")]
    for row in rows:
        yield [cell.strip().strip("`") for cell in re.split(r" *\| *", row.strip("|"))]


def json_block(title):
    return re.search(r"```json\n(.*?)```", section(title), re.DOTALL)[1]


def outcome_of(text):
    """Return the ids of an item's events, and the codes of its letters."""
    try:
        item = decode_item(text.encode())
    except BadItemError as error:
        return [], [error.reason]
    unknown = [Reason.UNKNOWN_TYPE for name in item.types if name not in KNOWN]
    return [event_id(item.id, name) for name in item.types if name in KNOWN], unknown


def test_the_item_shown_is_taken():
    shown = json.loads(json_block("What does it look like?"))

    events, codes = outcome_of(json_block("What does it look like?"))

    assert events == [f"{shown['id']}:{name}" for name in shown["events"]]
    assert codes == []


def test_every_field_that_is_read_is_in_the_table():
    assert [name for name, *_ in table("What does it look like?")] == [*Item.__struct_fields__]


def test_every_good_item_becomes_the_events_beside_it():
    rows = list(table("How many events is it?"))
    assert rows

    for text, events in rows:
        assert outcome_of(text) == (events.split("`, `"), []), text


def test_every_bad_item_becomes_a_letter_with_the_code_before_it():
    rows = [(code, example) for code, _, example in table("What becomes of a bad item?") if example]

    assert {code: outcome_of(example) for code, example in rows} == {code: ([], [code]) for code, _ in rows}
    assert rows


def test_every_code_is_on_the_page():
    assert [row[0] for row in table("What becomes of a bad item?")] == list(Reason)


def test_the_letter_shown_is_what_is_written():
    shown = json.loads(json_block("What does a dead letter look like?"))
    item = json.dumps(shown["item"]).encode()

    with pytest.raises(BadItemError) as caught:
        decode_item(item)
    fault = caught.value
    written = encode_letter(
        item, fault.reason, str(fault), failed_at=1_703_169_180.012, run_id=shown["run_id"], event=None
    )

    assert list(json.loads(written).items())[1:] == list(shown.items())[1:]
    assert len(json.loads(written)["id"]) == len(shown["id"])
    named = {key for row in table("What does a dead letter look like?") for key in row[0].split("`, `")}
    assert named == {*shown, "endpoint", "types", "aside"}, "which only some letters have"
