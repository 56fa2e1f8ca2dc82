"""The pages What if and Compliance agree with the commands, whatever their address contains."""

from __future__ import annotations

from rlm.web.pages import endpoints, whatif
from rlm.web.pages.live import Documents
from rlm.web.pages.page import Frame, Query, render
from tests.store import looks, steps
from tests.store.ledgers import called


def shown(inst, page, **query):
    """Return the values and the HTML of a page for a query; nothing may change by it."""
    with looks.nothing_changes(inst.store):
        asked = Query((), tuple((name.replace("__", "."), value) for name, value in query.items()))
        values = page.context(Documents(inst.store), asked)
    return values, render(Frame((page,), page, "server", 0.0), page.template, values)


def test_the_answer_is_that_of_the_command_that_it_names(inst):
    """Its verdict, its leftovers and the binding constraint."""
    asked = {"for": "counts", f"events__{steps.TYPE}": "500", f"add__{steps.TYPE}": "1"}

    values, html = shown(inst, whatif.PAGE, **asked)

    command = values["answer"]["command"].split()[1:]
    found = inst.json(*command)
    assert found["expected_leftover"] == 50
    assert "50 of 500 events will be left over" in html
    assert "today: 140 of 500 events will be left over" in html
    assert found["binds"][1:] in html


def test_without_a_question_it_plans_for_what_waits(inst):
    """As things are."""
    inst.push(*steps.items(70, steps.TYPE))

    values, html = shown(inst, whatif.PAGE)

    assert values["form"].began_with == "waiting now"
    assert "All 70 events are done" in html


def test_a_question_that_cannot_be_asked_says_why(inst):
    """The form stays; what came from the address is shown as text."""
    for query in ({f"limit__{steps.TYPE}": "<script>x"}, {"workers": "9" * 30}, {f"add__{steps.TYPE}": "-1"}):
        values, html = shown(inst, whatif.PAGE, **query)

        assert values["answer"] is None
        assert "This cannot be asked" in html
        assert "<script>x" not in html
        assert "data-follow" in html


def test_a_limit_that_the_configuration_refuses_is_a_fault(inst):
    """More workers than can be configured are refused where the settings are read."""
    text = inst.config.read_text()
    inst.config.write_text(text + "\n[types.NEW]\nendpoints = 3\n")

    _, html = shown(inst, whatif.PAGE, **{f"limit__{steps.TYPE}": "40"})

    assert "This cannot be asked" in html


def test_compliance_is_that_of_the_command(inst):
    """An endpoint without a call is named without rules."""
    for _ in range(30):
        called(inst.store, steps.ENDPOINT)

    values, html = shown(inst, endpoints.COMPLIANCE)

    ((name, one),) = values["called"]
    assert (name, one.rules[0].most) == (steps.ENDPOINT, 30)
    assert "No limit was exceeded since" in html


def test_a_limit_that_was_exceeded_comes_first(inst):
    """31 calls of 30, sent behind the back of the limiter."""
    other = inst.settings.event_types[0].endpoints[1]
    for name, calls in ((other.name, 30), (steps.ENDPOINT, 31)):
        for _ in range(calls):
            called(inst.store, name)

    values, html = shown(inst, endpoints.COMPLIANCE)

    assert values["exceeded"] == [steps.ENDPOINT]
    assert [name for name, _ in values["called"]] == [steps.ENDPOINT, other.name]
    assert f"1 limit exceeded: {steps.ENDPOINT}" in html
