"""Requests are read strictly: nothing in them is ambiguous."""

from __future__ import annotations

import pytest

from rlm.core.errors import BadQuestionError
from rlm.web.parameters import LettersOrdered, LimitOrdered, of_body
from tests.each import each


@each(
    ("body", "kind"),
    [
        (b'{"rate": "1/second", "rate": "2/second"}', LimitOrdered),
        (b'{"rate": "1/second", "r\\u0061te": "1/second"}', LimitOrdered),
        (b'{"filter": {"type": ["A"], "type": []}}', LettersOrdered),
    ],
)
def test_a_field_that_stands_there_twice_is_refused(body, kind):
    """As in an item: whoever else reads it may take the other; written with an escape, or further in, too."""
    with pytest.raises(BadQuestionError, match="is there twice"):
        of_body(body, kind)


def test_a_body_is_read():
    """None is the same as an empty one."""
    assert of_body(b'{"rate": "1/second", "reason": "rate"}', LimitOrdered).rate == "1/second"
    assert of_body(b"", LettersOrdered) == of_body(b"{}", LettersOrdered)
