"""Many cases in one test: all are tried, and each failing one is reported."""

from __future__ import annotations

import pytest

from tests.each import each


def test_every_case_is_tried_and_those_that_fail_are_reported_together():
    """By an assertion, by an exception and by `pytest.fail` alike, each with its values."""
    tried = []

    @each("name", ["a", "b"])
    @each(("number", "good"), [(1, True), (2, False), (3, True), (4, False)])
    def test(name, number, good):
        tried.append((name, number))
        if number == 4:
            pytest.fail("four")
        assert good

    with pytest.raises(BaseExceptionGroup, match="2 of 2 cases") as caught:
        test()

    assert tried == [(name, number) for name in "ab" for number in (1, 2, 3, 4)]
    first, second = (group.exceptions for group in caught.value.exceptions)
    assert [one.__notes__[0] for one in first] == ["where number = 2, good = False", "where number = 4, good = False"]
    assert len(second) == 2


@each("number", [1, 2])
def test_the_others_of_its_parameters_are_fixtures(tmp_path, number):
    """Shared by all cases."""
    (tmp_path / str(number)).touch()

    assert len(list(tmp_path.iterdir())) == number


def test_no_cases_are_a_mistake():
    """A test that tries nothing would always pass."""
    with pytest.raises(AssertionError, match="no case"):
        each("name", [])
