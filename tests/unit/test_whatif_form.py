"""The form of the page What if: the question in an address."""

from __future__ import annotations

import pytest

from rlm.settings import load_settings
from rlm.web.pages.page import Query
from rlm.web.pages.whatif import COUNTS, WAITING, read_form
from tests.each import each

DOCUMENT = """
[budgets.account]
rate_limit = "100/minute; 1000/hour"
[types.A]
rate_limit = "30 per 3 seconds"
endpoints = [
  { name = "a", url = "http://h/a" },
  { name = "a_own", url = "http://h/a2", rate_limit = "5/minute", budget = "account" },
]
[types.B]
rate_limit = "10/minute"
endpoints = [{ name = "b", url = "http://h/b" }]
"""


@pytest.fixture
def form_of(tmp_path):
    """Read a form from a query."""
    path = tmp_path / "rlm.toml"
    path.write_text(DOCUMENT)
    settings = load_settings(path, {})

    def read(query=(), waiting=None, last=None):
        events = {"A": 0, "B": 0} if waiting is None else waiting
        return read_form(Query((), tuple(query)), settings, settings.event_types, events, last or {})

    return read


def test_without_a_query_it_begins_with_what_waits(form_of):
    """The planner's own command asks the same."""
    form = form_of(waiting={"A": 40, "B": 0})

    assert (form.basis, form.began_with) == (WAITING, "waiting now")
    assert [one.events.value for one in form.types] == [40, 0]
    assert form.asked.command == "rlm plan"


def test_where_nothing_waits_it_begins_with_the_last_run(form_of):
    """So that there is something to see; a type that is no longer configured is left out."""
    form = form_of(last={"A": 70, "FORMER": 3})

    assert (form.basis, form.began_with) == (COUNTS, "in the last run")
    assert form.asked.counts == ["A=70"]
    assert form_of().asked.counts == ["A=0"]


def test_each_field_is_an_option_of_the_command(form_of):
    """Numbers, limits of types, endpoints and budgets in the words of the file, workers, more endpoints."""
    form = form_of(
        [
            ("for", "counts"),
            ("events.A", "500"),
            ("limit.A", "60"),
            ("limit.a_own", "7"),
            ("budget.account", "200"),
            ("add.B", "2"),
            ("workers", "3"),
        ]
    )

    assert form.asked.command == (
        "rlm plan --count A=500 --workers 3 --set 'types.A.rate_limit=60 per 3 seconds' "
        "--set 'types.A.endpoints[1].rate_limit=7/minute' --set 'budgets.account.rate_limit=200/minute; 1000/hour' "
        "--add-endpoint B=B_more_1 --add-endpoint B=B_more_2"
    )
    assert [one.told for one in form.types] == [True, True]


def test_what_is_as_today_is_not_told(form_of):
    """A form that is sent with all its fields asks for nothing else than what was changed."""
    form = form_of([("for", "waiting"), ("limit.A", "30"), ("limit.B", "10"), ("add.A", "0"), ("workers", "0")])

    assert form.asked.command == "rlm plan"


@each(
    ("name", "value"),
    [
        ("events.A", "-1"),
        ("events.A", "1.5"),
        ("events.A", "9" * 5000),
        ("events.A", "<b>"),
        ("events.A", "²"),
        ("limit.A", "0"),
        ("add.A", "10"),
        ("workers", "100000000"),
    ],
)
def test_what_is_no_number_is_a_fault_that_names_it(form_of, name, value):
    """And is nowhere else."""
    (fault,) = form_of([(name, value)]).faults

    assert "is not a whole number from" in fault
    assert len(fault) < 150


def test_a_slider_goes_further_than_what_is(form_of):
    """In round numbers, and as far as the number that it stands at."""
    form = form_of(waiting={"A": 1234, "B": 3})
    assert form_of([("events.A", "7000")], waiting={"A": 1234, "B": 3}).types[0].events.most == 7000

    assert [one.events.most for one in form.types] == [5000, 500]
    assert (form.types[0].limits[0].most, form.workers.most) == (120, 40)
