"""Faults: what is allowed, and the effect on an admitted call."""

from __future__ import annotations

from random import Random

import pytest

from rlm.core.errors import ConfigurationError
from rlm.sandbox.mockapi.endpoint import Faults, NoAnswer, Response, outcome
from tests.each import each


def outcomes(calls=1000, since_set=0.0, **fields):
    random = Random(1)
    return [outcome(Faults.of(fields), since_set, 0.5, random) for _ in range(calls)]


def test_a_sound_endpoint_answers_200_after_its_processing_time():
    """Without faults nothing is added and nothing left to chance."""
    assert set(outcomes()) == {Response(200, 0.5)}


@each(
    ("fields", "expected"),
    [
        ({"status": 503}, Response(503, 0.5)),
        ({"error_rate": 1}, Response(500, 0.5)),
        ({"error_rate": 0, "status": 503}, Response(200, 0.5)),
        ({"hang": True}, NoAnswer.HANG),
        ({"reset": True}, NoAnswer.RESET),
        ({"throttle": 7}, Response(429, 0.0, 7.0)),
        ({"slow": 4}, Response(200, 2.0)),
        ({"outages": [(0, 1)], "throttle": 7}, Response(503)),
    ],
)
def test_each_fault_has_its_outcome(fields, expected):
    """A fault that is not a matter of chance meets every call."""
    assert set(outcomes(**fields)) == {expected}


@pytest.mark.parametrize("field", ["error_rate", "hang", "reset"])
def test_a_share_meets_about_that_share_of_calls(field):
    """A rate of 0.3 fails three calls of ten."""
    failed = sum(result != Response(200, 0.5) for result in outcomes(**{field: 0.3}))

    assert 250 < failed < 350


def test_jitter_is_added_within_its_bound():
    """Answers are late by anything up to the jitter."""
    times = [answer.after_seconds for answer in outcomes(jitter_seconds=0.2)]

    assert 0.5 <= min(times) < 0.52
    assert 0.68 < max(times) <= 0.7


def test_outages_begin_and_end():
    """An endpoint is out in each of its windows and sound in between."""
    windows = [(1, 2), (4, 5)]

    statuses = [outcomes(1, since, outages=windows)[0].status for since in (0.9, 1.0, 1.9, 2.0, 4.5, 5.0)]

    assert statuses == [200, 503, 503, 200, 503, 200]


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"error_rate": 1.5}, "<= 1.0"),
        ({"error_rte": 0.5}, "error_rte"),
        ({"status": 99}, ">= 200"),
        ({"slow": "very"}, "Expected `float`"),
        ({"retry_after": "sometimes"}, "sometimes"),
    ],
)
def test_a_wrong_fault_is_named_and_the_right_ones_listed(fields, what):
    """The message says what is wrong, and which fields there are."""
    with pytest.raises(ConfigurationError, match=r"the fields are down, outages") as caught:
        Faults.of(fields)

    assert what in str(caught.value)
