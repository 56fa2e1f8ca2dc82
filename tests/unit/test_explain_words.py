"""The words that explain an event, if they do not depend on a server."""

from __future__ import annotations

import pytest

from rlm.admin.explain.look import EndpointGate, TypeStatus
from rlm.admin.explain.words import moment, ordinal, sentence
from rlm.cli import events
from rlm.core.documents import RunForecast
from rlm.core.run import Run, State, Trigger
from rlm.core.trail import Place
from rlm.core.window import Circuit
from rlm.ledger.reading import Whereabouts
from tests.each import each
from tests.values import replace

NOW = 1_703_167_402.12  # 2023-12-21T14:03:22.120Z


def status(*gates, ready=1, **changes):
    """An open run with a minute left, and a worker."""
    run = Run("r", State.RUNNING, Trigger.SCHEDULE, NOW, NOW + 60, round((NOW + 60) * 1_000_000), 60, "revision")
    facts = {
        "now": NOW,
        "run": run,
        "next_run_at": NOW + 60,
        "gates": gates,
        "needs_seconds": 1.0,
        "ready": ready,
        "wanted": 4,
        "lanes": 5,
        "busy": 0,
        "workers": frozenset({"w"}),
        "max_runs": 5,
    }
    return TypeStatus(**{**facts, **changes})


def gate(name="api", health=Circuit.FULL, wait=3.2, free=0, reason=None):
    return EndpointGate(name, health, free, wait, reason=reason)


def forecast_of(left):
    return RunForecast(as_of="", forecast_seconds=0.0, expected_leftover=left, workers=1, leftover_by_type={"T": left})


def pending(*gates, **changes):
    """Return the sentence about the twelfth of 340 pending events."""
    event = Whereabouts("e17:T", NOW, Place.PENDING, position=12, of=340)
    return sentence(event, status(*gates, **changes)).removeprefix("e17:T is pending, 12th of 340 of its type: ")


@each(
    ("number", "written"),
    [
        (1, "1st"),
        (2, "2nd"),
        (3, "3rd"),
        (4, "4th"),
        (11, "11th"),
        (12, "12th"),
        (13, "13th"),
        (21, "21st"),
        (112, "112th"),
        (1203, "1,203rd"),
    ],
)
def test_places_in_an_order(number, written):
    """As people write them."""
    assert ordinal(number) == written


def test_while_a_run_is_conducted_by_hand_it_is_not_said_that_none_starts():
    """Only that no other follows; without a run it is said who conducts one."""
    fate = pending(gate(), next_run_at=None, run=replace(status().run, cancelled=True))
    event = Whereabouts("e17:T", NOW, Place.LEFTOVER)

    assert fate == "run r is ending, so it will be left over; no other run follows by itself (`rlm start` starts one)"
    assert "no scheduler is alive" in sentence(event, status(next_run_at=None, run=None))
    assert "no scheduler is alive" in sentence(event, status(next_run_at=None, conducted=False))


def test_a_moment_of_today_is_its_time_alone():
    """Any other one has its date; both are UTC."""
    assert moment(NOW, NOW) == "14:03:22.120 UTC"
    assert moment(NOW - 86_400, NOW) == "2023-12-20 14:03:22.120 UTC"


def test_endpoints_that_are_all_shut_for_the_same_reason():
    """One, several; and paused with no end."""
    both = gate("a", wait=9.0), gate("b")

    assert pending(gate()) == "its endpoint api is full, the next slot is free in 3.2 s"
    assert pending(*both) == "both its endpoints are full, the next slot is free in 3.2 s at b"
    assert pending(gate(health=Circuit.PAUSED, wait=None)) == "its endpoint api is paused, until resumed by hand"


@pytest.mark.parametrize(("left", "late"), [(328, False), (329, True)])
def test_an_event_that_the_forecast_leaves_over_says_so(left, late):
    """The 12th of 340 is one of the last 329, and none of the last 328."""
    run = replace(status().run, forecast=forecast_of(left))

    told = pending(gate(), run=run)

    assert told.startswith("its endpoint api is full, the next slot is free in 3.2 s")
    assert (
        told.endswith("; by the forecast it will be left over, and the next run starts at about 14:04:22 UTC") is late
    )


def test_an_event_that_the_forecast_leaves_over_is_not_about_to_be_released():
    """Nor is one with more events before it than lanes are idle: both slots and lanes are needed."""
    slots = gate(health=Circuit.OK, wait=0.0, free=14)
    late = replace(status().run, forecast=forecast_of(340))

    assert pending(slots, lanes=20, busy=8) == "14 slots are free, so it is about to be released"
    assert pending(slots, lanes=20, busy=9) == "14 slots are free, and 11 lanes of the workers are idle"
    assert pending(slots, lanes=20, busy=8, run=late).startswith(
        "14 slots are free, and 12 lanes of the workers are idle;"
    )


def test_workers_of_another_configuration_are_named():
    """They are ready and claim nothing: free slots are no reason to wait in peace."""
    slots = gate(health=Circuit.OK, wait=0.0, free=4)

    assert pending(slots, ready=0, lanes=0, strangers=2) == (
        "no worker is ready, of 4 wanted; 2 of another configuration claim nothing: restart what `rlm doctor` names"
    )
    assert "another" not in pending(slots, ready=0, lanes=0)


def test_the_windows_of_several_endpoints_are_theirs():
    """As people say it: its window, their windows."""
    held = gate("a", Circuit.HELD), gate("b", Circuit.HELD)

    assert pending(held[0]) == "its endpoint a is held, its window not to be trusted, the next slot is free in 3.2 s"
    assert pending(*held).startswith("both its endpoints are held, their windows not to be trusted, ")
    assert "(2 held, their windows not to be trusted, 1 full)" in pending(*held, gate("c"))


@each(
    ("gates", "words"),
    [
        ([gate(health=Circuit.PAUSED, wait=None)], "; its endpoint api is paused until resumed"),
        ([gate(health=Circuit.HELD, wait=5.0)], "; its endpoint api is held for another 5.0 s"),
        (
            [EndpointGate("api", Circuit.PAUSED, 0, None, "account")],
            "; the budget account of its endpoint api is paused until resumed",
        ),
        (
            [gate(health=Circuit.RESTING, reason="failing: TLS failed")],
            "; its endpoint api is resting for another 3.2 s (failing: TLS failed)",
        ),
        (
            [gate(health=Circuit.PROBING, wait=0, free=1, reason="no host reaches it: not reachable")],
            "; its endpoint api is probing until it answers well (no host reaches it: not reachable)",
        ),
        (
            [gate("a", Circuit.RESTING, reason="x"), gate("b", Circuit.RESTING, reason="x")],
            "; both its endpoints are resting (x), the next slot is free in 3.2 s at a",
        ),
        (
            [gate("a", Circuit.PAUSED, None), gate("b", Circuit.PAUSED, None)],
            "; both its endpoints are paused, until resumed",
        ),
        (
            [gate("a", Circuit.PAUSED, None), gate("b", Circuit.RESTING)],
            "(1 paused, 1 resting), the next slot is free in",
        ),
    ],
)
@each("place", [Place.LEFTOVER, Place.SPENT])
def test_what_is_left_over_says_what_shuts_all_its_endpoints(place, gates, words):
    """Not where one of them is only full: with time that comes right by itself."""
    event = Whereabouts("e:T", NOW, place, tries=3, runs=1)

    assert words in sentence(event, status(*gates))
    assert "api is" not in sentence(event, status(*gates, gate("other")))
    assert "endpoints" not in sentence(event, status(*gates, gate("other")))


def test_an_endpoint_out_of_budget_or_being_probed_is_not_free_though_nothing_rests():
    """Slots that cannot be used are none."""
    gates = gate("a", Circuit.FULL), gate("b", Circuit.PROBING, wait=1.0)

    assert pending(*gates) == (
        "none of its two endpoints lets a call through (1 full, 1 probing), the next slot is free in 1.0 s at b"
    )


def test_a_type_that_is_no_longer_configured_is_told_its_fate():
    """While a run is open and while none is."""
    assert "becomes a dead letter" in pending(needs_seconds=None)
    left = Whereabouts("e:T", NOW, Place.LEFTOVER, position=1, of=1)
    assert "so it becomes a dead letter" in sentence(left, status(needs_seconds=None, run=None))


def test_a_worker_that_is_gone_is_named_with_the_time_by_which_its_event_is_taken_back():
    """Its call is still under way as far as the ledger knows."""
    event = Whereabouts("e:T", NOW, Place.IN_FLIGHT, due=NOW + 4, worker="x", called=("api", NOW - 1))

    assert sentence(event, status(gate())) == (
        "e:T is in flight at api, its 1st attempt, since 14:03:21.120 UTC, 1.0 s, in worker x, which is no longer "
        "heard from: it is taken back in 4.0 s at the latest"
    )


def test_what_comes_from_outside_stays_on_one_line():
    """Whatever the id of an event holds."""
    event = Whereabouts("a\nb:T", NOW, Place.PENDING)

    assert "\n" not in sentence(event, status(gate()))


@pytest.mark.parametrize("terminal", [False, True])
def test_the_tables_say_the_words_of_health_and_when_alike(monkeypatch, capsys, terminal):
    """The word of the sentence, not the key of the JSON; a call without an answer took no time that is known."""
    monkeypatch.setattr(events, "is_terminal", lambda: terminal)
    monkeypatch.setenv("COLUMNS", "200")
    answers = [("error", None), ("unknown", None), ("error", 0.2)]
    call = {"attempt": 1, "at": "2020-11-27T04:32:43.713Z", "endpoint": "api", "text": "", "host": None}
    calls = [call | {"answer": answer, "seconds": seconds} for answer, seconds in answers]
    gates = [{"endpoint": "api", "state": "probed", "health": "probing", "budget": None, "free": 0, "wait_seconds": 0}]
    facts = {"sentence": "s", "letter": None, "taken_at": call["at"], "taken_in": "r", "releases": 1, "deaths": 0}

    events._describe({**facts, "given_back": 0, "calls": len(calls), "attempts": calls, "endpoints": gates})

    told = capsys.readouterr().out
    when = "11-27 04:32:43" if terminal else call["at"]
    assert told.count(when) == 1 + len(calls)
    assert f"{when}  api       error    no answer" in told
    assert f"{when}  api       unknown          -" in told
    assert "api       probing           0" in told
