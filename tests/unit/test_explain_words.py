"""The words that explain an event, if they do not depend on a server."""

from __future__ import annotations

from rlm.admin.explain.look import EndpointGate, TypeStatus
from rlm.admin.explain.words import sentence
from rlm.core.run import Run, State, Trigger
from rlm.core.trail import Place
from rlm.core.window import Circuit
from rlm.ledger.reading import Whereabouts

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


def pending(*gates, **changes):
    """Return the sentence about the twelfth of 340 pending events."""
    event = Whereabouts("e17:T", NOW, Place.PENDING, position=12, of=340)
    return sentence(event, status(*gates, **changes)).removeprefix("e17:T is pending, 12th of 340 of its type: ")


def test_workers_of_another_configuration_are_named():
    """They are ready and claim nothing: free slots are no reason to wait in peace."""
    slots = gate(health=Circuit.OK, wait=0.0, free=4)

    assert pending(slots, ready=0, lanes=0, strangers=2) == (
        "no worker is ready, of 4 wanted; 2 of another configuration claim nothing: restart what `rlm doctor` names"
    )
    assert "another" not in pending(slots, ready=0, lanes=0)


def test_what_comes_from_outside_stays_on_one_line():
    """Whatever the id of an event holds."""
    event = Whereabouts("a\nb:T", NOW, Place.PENDING)

    assert "\n" not in sentence(event, status(gate()))
