"""The network between the workers and the API fails in every possible way, during a whole system's run."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

import pytest

from tests.acceptance.system import System
from tests.faults.api_proxy import Answer, ApiProxy
from tests.faults.test_processes_die import assert_next_run
from tests.leftbehind import nothing_left_behind
from tests.store.windows import stamps
from tests.wait import wait_until

pytestmark = pytest.mark.long

#: Events of a case: few, so that no window is full and every late call still fits.
EVENTS = 25


@contextmanager
def through_a_proxy(directory, **options):
    """Yield a running system whose workers reach the API through a proxy, and the proxy."""
    proxies = []

    def front(url):
        proxies.append(ApiProxy(url).__enter__())
        return proxies[0].front

    try:
        with nothing_left_behind(directory), System(directory, front=front, **options) as system:
            system.start_both()
            yield system, proxies[0]
            print(system.log("scheduler"), system.log("supervisor"))
    finally:
        for proxy in proxies:
            proxy.__exit__()


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """One system and its proxy for all cases after which no endpoint rests for long."""
    with through_a_proxy(tmp_path_factory.mktemp("network"), env={"RLM_WORKERS__MIN": "4"}) as made:
        yield made


@pytest.fixture
def proxied(both, request):
    """The system and its proxy, without faults again."""
    system, proxy = both
    system.case = request.node.name
    yield system, proxy
    proxy.answer, proxy.there, proxy.back, proxy.bytes_per_second = Answer.WHOLE, 0.0, 0.0, 0


def carried_out(system, proxy, **faults):
    """Push events, let a run meet the faults for ten requests, repair the network, return events and record."""
    events = system.push_evenly(EVENTS, prefix=system.case.translate({ord(one): "_" for one in " []"}))
    begun = proxy.requests
    for name, value in faults.items():
        setattr(proxy, name, value)
    run_id = system.ask_for_run()
    wait_until(lambda: proxy.requests >= begun + 10, message="the faults are met")
    wait_until(lambda: failed(system, run_id), timeout=15, message="a call has failed")
    proxy.answer, proxy.back, proxy.bytes_per_second = Answer.WHOLE, 0.0, 0
    return events, system.await_record(run_id)


def failed(system, run_id):
    """Return whether a call of the run ended in an error."""
    tally = system.store.runs.tally()
    return any(number for what, number in tally.items() if what.startswith("errors:"))


def assert_survived(system, events, record):
    """Check the five promises, and that every event of the case was done."""
    assert record["state"] == "completed", record["counts"]
    assert record["counts"]["completed"] == EVENTS
    assert set(events) <= set(system.answered())
    system.assert_promises(system.pushed, [record])
    assert_next_run(system)


@pytest.mark.parametrize("answer", [Answer.RESET, Answer.HALF])
def test_an_answer_that_breaks_off_has_the_event_sent_again_under_its_key(proxied, answer):
    """The API has read the call: it counts as sent, its attempt is spent, the next one has the same key."""
    system, proxy = proxied

    events, record = carried_out(system, proxy, answer=answer)

    attempts = Counter(one.event_id for one in system.api.arrivals if one.event_id in events)
    repeated = {event for event, number in attempts.items() if number > 1}
    assert repeated
    assert sum(one["errors"] for one in record["by_endpoint"].values()) == sum(attempts.values()) - EVENTS
    numbers = [one.attempt for one in system.api.arrivals if one.event_id in repeated]
    assert set(numbers) >= {1, 2}
    assert_survived(system, events, record)


def test_a_kept_connection_that_dies_as_it_is_used_costs_an_attempt_and_no_event(proxied):
    """A kept connection is reset by each second request: nobody knows whether it arrived, so it counts as sent."""
    system, proxy = proxied

    events, record = carried_out(system, proxy, answer=Answer.STALE)

    assert sum(one["errors"] for one in record["by_endpoint"].values()) > 0
    assert all(number == 1 for event, number in system.answered().items() if event in events)
    assert_survived(system, events, record)


def test_a_request_that_nobody_answers_is_given_up_at_its_time_out(proxied):
    """The requests vanish on their way; each is sent again elsewhere."""
    system, proxy = proxied

    events, record = carried_out(system, proxy, answer=Answer.NEVER)

    assert all(number == 1 for event, number in system.answered().items() if event in events)
    assert_survived(system, events, record)


def test_an_answer_that_comes_after_the_time_out_changes_nothing(proxied):
    """The API did the work, its answer came too late: the event is sent again under its key, and counted once."""
    system, proxy = proxied

    events, record = carried_out(system, proxy, back=4.0)

    assert max(Counter(one.event_id for one in system.api.arrivals if one.event_id in events).values()) > 1
    assert record["counts"]["completed"] == EVENTS
    assert_survived(system, events, record)


def test_an_interim_answer_settles_nothing_and_each_event_gets_its_own(proxied):
    """103 or 102 first, the real answer 0.15 s later: what the API decided by event is what became of the event."""
    system, proxy = proxied
    system.api.set_fault("*", error_rate=0.3, status=422)
    proxy.answer = Answer.INTERIM
    events = system.push_evenly(40, prefix="interim")

    record = system.await_record(system.ask_for_run())

    system.api.set_fault("*")
    decided = {one.event_id: one.status for one in system.api.arrivals if one.event_id in events}
    letters = {one["event_id"]: one["detail"] for one in system.letters() if one["event_id"] in events}
    assert set(decided) == set(events)
    assert {event for event, status in decided.items() if status == 422} == set(letters)
    assert all("HTTP 422" in detail for detail in letters.values())
    assert record["counts"]["completed"] == Counter(decided.values())[200]
    assert record["counts"]["failed"] == len(letters) > 0
    assert system.repeats().keys().isdisjoint(events)
    system.assert_promises(system.pushed, [record])
    assert_next_run(system)


def test_a_line_of_a_kilobyte_a_second_is_slow_and_no_more(proxied):
    """What does not get through in time is sent again; no call is read beyond its limit."""
    system, proxy = proxied

    events, record = carried_out(system, proxy, bytes_per_second=300)

    assert_survived(system, events, record)


def test_nobody_listens_for_a_while(proxied):
    """Refused connections take no slot; the events wait, and are done once somebody listens."""
    system, proxy = proxied
    events = system.push_evenly(EVENTS, prefix="refused")
    arrived = len(system.api.arrivals)

    with proxy.away():
        run_id = system.ask_for_run()
        wait_until(lambda: "back" in str(backing_off(system)), message="events wait for another attempt")
        assert len(system.api.arrivals) == arrived
        assert slots(system, run_id) == 0

    record = system.await_record(run_id)
    assert_survived(system, events, record)


def backing_off(system):
    counts = system.store.ledger.count(system.types)
    return ["back" for count in counts.values() if count.backoff]


def slots(system, run_id):
    """Return the slots taken since the run began."""
    began_us = system.store.runs.current().started_at * 1_000_000
    endpoints = system.settings.endpoints.values()
    return sum(stamp >= began_us for one in endpoints for stamp in stamps(system.store, one))


def test_an_endpoint_whose_name_does_not_resolve_is_no_loss(tmp_path):
    """Its events are done at the type's other endpoints, and no slot of its own is taken."""
    with nothing_left_behind(tmp_path), System(tmp_path) as system:
        first = system.settings.event_types[0].endpoints[0]
        text = system.config.read_text()
        system.config.write_text(text.replace(f'"{first.url}"', '"http://no-such-host.invalid/rebalance"', 1))
        system.start_both()
        events = system.push_evenly(EVENTS)

        record = system.await_record(system.ask_for_run())

        assert record["state"] == "completed", record["counts"]
        assert record["by_endpoint"][first.name]["completed"] == 0
        system.assert_promises(events, [record])
        assert_next_run(system)


def test_not_now_for_an_absurd_time_and_elsewhere(system):
    """429 and a redirect: the others do the work."""
    absurd, moved, *_ = (one.endpoints[0].name for one in system.settings.event_types)
    system.api.set_fault(absurd, throttle=1e9)
    system.api.set_fault(moved, status=307)
    events = system.push_evenly(100)

    record = system.await_record(system.ask_for_run())

    ends = record["by_endpoint"]
    assert record["counts"]["completed"] + record["counts"]["failed"] == 100, record["counts"]
    assert ends[absurd]["throttled"] > 0
    assert ends[absurd]["errors"] == 0
    assert {letter["reason"] for letter in system.letters()} == {"rejected"}
    assert all("307" in letter["detail"] for letter in system.letters())
    rests = system.store.windows.look([system.settings.endpoints[absurd]])[1][absurd]
    assert 86_000 < rests.rest_seconds <= 86_400
    refused = sum(one.status == 429 for one in system.api.arrivals)
    assert refused == sum(one["throttled"] for one in ends.values())
    system.assert_promises(events, [record])
    system.api.set_fault("*")
    assert_next_run(system)
