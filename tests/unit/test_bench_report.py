"""The comparison's table and its verdict."""

from __future__ import annotations

import pytest

from benchmarks.harness.contender import Result
from benchmarks.harness.figures import Figures
from benchmarks.harness.report import Row, page_part, put_between, table, where_not_ahead


def result(makespan, *, first_call=0.1, refused=0, late=0, forecast=None):
    return Result(Figures(makespan, first_call, 100 - late, refused, 0, 0), forecast)


def rows(**runs):
    return {name: Row(name, 100, found) for name, found in runs.items()}


def test_a_row_has_the_median_its_ratios_and_how_far_the_runs_lie_apart():
    """Counts that differ between runs are a range, a forecast is held against its worst outcome."""
    found = rows(
        bound=[result(10.0)],
        schedule=[result(12.5)],
        rlm=[
            result(12.0, forecast=12.6),
            result(12.5, first_call=0.4, forecast=12.5),
            result(13.0, first_call=0.2, refused=2, late=3, forecast=12.5),
        ],
    )

    lines = table(found).splitlines()[2:]

    assert lines == [
        "| `bound` | 10.00 | 1.000 | 0.800 | | | | | | | |",
        "| `schedule` | 12.50 | 1.250 | 1.000 | | | | | | | |",
        "| `rlm` | 12.50 | 1.250 | 1.000 | 0.20 | 12.90 | 0 to 2 | 0 to 3 | 12.50 | 5.0% | 8.0% |",
    ]


def test_who_cannot_say_when_it_is_done_has_none():
    """No forecast is worth its own word; one run has no spread, and without a bound there is no ratio."""
    found = rows(celery=[result(20.0, refused=1_234)])

    assert table(found).splitlines()[2:] == ["| `celery` | 20.00 | | | 0.10 | 20.10 | 1,234 | 0 | none | | |"]


def test_every_rival_that_is_before_rlm_is_named():
    """Sooner from the first call or from the start, fewer refused, less undone: each is said, with its price."""
    found = rows(
        bound=[result(10.0)],
        rlm=[result(12.0, first_call=1.5, refused=1, late=1)],
        quick=[result(11.0, refused=5, late=1)],
        careful=[result(13.0)],
        slow=[result(20.0, refused=9, late=9)],
    )

    assert where_not_ahead({"full": found}) == [
        "full: `quick` has a makespan of 11.00 s, RLM of 12.00 s, with 5 calls refused",
        "full: `quick` is done 11.10 s after the start, RLM 13.50 s, with 5 calls refused",
        "full: `careful` is done 13.10 s after the start, RLM 13.50 s",
        "full: `careful` has 0 calls refused, RLM 1",
        "full: `careful` leaves 0 events undone in the window, RLM 1",
    ]


def test_the_page_says_who_could_not_run_and_where_rlm_is_not_ahead():
    """Nothing is left out in silence."""
    found = rows(rlm=[result(12.0)], celery=[result(20.0)])

    part = page_part({"full": found}, "Taken so.", {"bullmq": "there is no Node here"}, "plot.svg")

    assert part.startswith("Taken so.\n\nNot run, or not to the end:\n\n- `bullmq`: there is no Node here\n\n![")
    assert "(plot.svg)" in part
    assert part.endswith("Where RLM is not ahead: nowhere in these runs.")


def test_rlm_alone_is_ahead_of_nobody():
    """Without a rival there is no verdict."""
    assert "ahead" not in page_part({"full": rows(bound=[result(10.0)], rlm=[result(12.0)])}, "Taken so.", {})


def test_only_what_is_between_the_markers_is_replaced():
    """The page around it is written by hand."""
    page = "before\n<!-- one -->\nold\n<!-- end of one -->\nafter\n"

    written = put_between(page, "one", "new")

    assert written == "before\n<!-- one -->\n\nnew\n\n<!-- end of one -->\nafter\n"
    assert put_between(written, "one", "new") == written


@pytest.mark.parametrize("page", ["", "<!-- one -->\n", "<!-- two -->\n<!-- end of two -->"])
def test_a_page_without_the_markers_is_left_alone(page):
    """Nothing is written where it is not clear what to replace."""
    with pytest.raises(ValueError, match="no markers <!-- one --> and <!-- end of one -->"):
        put_between(page, "one", "new")
