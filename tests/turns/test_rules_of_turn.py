"""The rule by which lanes get their calls, sentence by sentence, on a real server: see docs/adr."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from msgspec.structs import replace

from rlm.core.errors import StoreError, StoreGarbledError
from rlm.delivery.run_end import make_record
from rlm.ledger.rules import read_rules
from tests.turns.world import (
    GUARD,
    HELD_UP_US,
    budget,
    completed,
    dead,
    endpoint,
    failed,
    kind,
    most_within,
    throttled,
    unconnected,
    unsent,
)
from tests.values import ending_of, record_from

HOUR = 3600.0
#: A wait that is that of no short rest, microseconds; the lease of a call in flight is waited for as well.
SHUT = 5_000_000


# Which type, and which endpoint.


def test_the_first_type_with_an_event_and_a_slot_at_the_first_of_its_endpoints_with_one(world):
    first, second = endpoint("first", "1 per 60 seconds"), endpoint("second", "1 per 60 seconds")
    world.start(kind("A", first, second), kind("B", endpoint("b", "1 per 60 seconds")))
    lane = world.lane()

    calls = [lane.call()]
    for _ in range(2):
        calls.append(lane.call(completed(calls[-1])))

    assert [(call.event_id, call.endpoint) for call in calls] == [("i1:A", "first"), ("i2:A", "second"), ("i1:B", "b")]
    reply = lane.ask(completed(calls[-1]))
    assert reply.wait is not None
    assert 59_000_000 < reply.wait <= 60_050_000


def test_a_type_of_higher_rank_whose_slot_comes_free_goes_before_one_that_was_free_all_the_time(world):
    world.start(kind("A", endpoint("a", "1 per 0.2 seconds")), kind("B"), events=40)
    lane = world.lane()

    call = lane.call()
    names = [call.endpoint]
    until = time.monotonic() + 1.2
    while time.monotonic() < until and len(names) < 30:
        call = lane.call(completed(call))
        names.append(call.endpoint)
        time.sleep(0.04)

    assert names.count("a") >= 4  # one each 0.25 s, although B always has a slot


def test_a_primary_that_comes_free_goes_before_an_overflow_that_was_free_all_the_time(world):
    world.start(kind("A", endpoint("first", "1 per 0.2 seconds"), endpoint("second")), events=40)
    lane = world.lane()

    call = lane.call()
    assert lane.call(completed(call)).endpoint == "second"
    time.sleep(0.26)

    assert lane.call().endpoint == "first"


def test_a_type_with_a_share_goes_first_while_it_has_had_less_than_that(world):
    world.start(kind("A"), kind("B", share=0.25), events=40, shares='[["B", 0.25]]')
    lane = world.lane()

    call = lane.call()
    names = [call.endpoint]
    for _ in range(19):
        call = lane.call(completed(call))
        names.append(call.endpoint)

    assert names.count("b") == 5
    assert names[0] == "b"


def test_a_call_that_was_not_sent_counts_for_no_share(world):
    world.start(kind("A"), kind("B", share=0.25), events=40, shares='[["B", 0.25]]')
    lane = world.lane()

    first = lane.call()
    names = []
    call = lane.call(unsent(first))
    for _ in range(8):
        names.append(call.endpoint)
        call = lane.call(completed(call))

    assert (first.endpoint, names) == ("b", ["b", "a", "a", "a", "b", "a", "a", "a"])


def test_longest_queue_first_takes_the_open_type_with_the_most_ready_events(world):
    """Rule 21."""
    world.publish(kind("A"), kind("B"), kind("C", endpoint("c", "1 per 60 seconds")))
    world.ready("A", 3)
    world.ready("B", 5)
    world.ready("C", 9)
    world.open(most="1")
    lane = world.lane()

    call = lane.call()
    names = [call.endpoint]
    for _ in range(5):
        call = lane.call(completed(call))
        names.append(call.endpoint)

    assert names == ["c", "b", "b", "a", "b", "a"]


def test_of_equally_long_queues_that_of_the_higher_rank_goes_first(world):
    """Even if its slot came free later: it is the same in the simulation."""
    world.publish(kind("A", endpoint("a", "1 per 0.2 seconds")), kind("B"))
    world.ready("A", 3)
    world.ready("B", 2)
    world.open(most="1")
    lane = world.lane()

    call = lane.call()
    time.sleep(0.3)

    assert (call.endpoint, lane.call(completed(call)).endpoint) == ("a", "a")


def test_longest_queue_first_looks_at_the_first_fifty_open_types(world):
    kinds = [kind(f"T{number:02d}") for number in range(52)]
    world.publish(*kinds)
    for each in kinds[:51]:
        world.ready(each.name, 1)
    world.ready("T49", 1)
    world.ready("T51", 9)
    world.open(most="1")

    assert world.lane().call().endpoint == "t49"


def test_no_call_begins_that_does_not_fit_before_the_deadline_and_the_run_is_closed_then(world):
    slow, quick = kind("A", endpoint("a"), seconds=30.0), kind("B", seconds=0.01)
    world.start(slow, quick, window=20.0, events=1)
    lane = world.lane()

    call = lane.call()
    assert call.endpoint == "b"
    assert lane.ask(completed(call)).close == world.run.id


def test_a_run_may_begin_calls_that_did_not_fit_into_the_one_before(world):
    world.start(kind("A", seconds=30.0), window=20.0)
    assert world.lane().ask().close == world.run.id
    close(world)

    world.open(60.0)

    assert world.lane(2).call().endpoint == "a"


def test_two_types_that_use_one_url_share_its_window_and_its_slots_go_by_rank(world):
    both = endpoint("both", "3 per 60 seconds")
    world.start(kind("A", both), kind("B", both), events=2)
    lane = world.lane()

    call = lane.call()
    events = [call.event_id]
    for _ in range(2):
        call = lane.call(completed(call))
        events.append(call.event_id)

    assert [event[-1] for event in events] == ["A", "A", "B"]
    assert lane.ask(completed(call)).wait > SHUT
    assert len(world.stamps(both)) == 3


def test_a_slot_given_back_by_one_of_two_types_of_one_url_is_free_for_the_other(world):
    both = endpoint("both", "1 per 60 seconds")
    world.start(kind("A", both), kind("B", both), events=1)
    first, second = world.lane(1), world.lane(2)
    call = first.call()
    assert second.ask().wait is not None

    failure = unconnected(call, delay_us=30_000_000)

    assert first.call(failure).event_id.endswith(":B")


def test_types_change_their_order_of_use_in_the_open_run(world):
    a, b = kind("A"), kind("B")
    world.start(a, b)
    call = world.lane().call()
    assert call.endpoint == "a"

    world.publish(b, a)
    lane = world.lane(2)

    call = lane.call()
    assert call.endpoint == "b"
    world.publish(b)
    while (reply := lane.ask(completed(call))).call:
        call = reply.call
        assert call.endpoint == "b"
    assert reply.wait is not None


def test_a_key_that_holds_no_event_is_given_as_an_event_without_an_item(world):
    world.start(kind("A"), events=2)
    world.client.delete(world.keys.event("i1:A"))
    world.client.lpush(world.keys.event("i1:A"), "rubbish")
    lane = world.lane()

    call = lane.call()

    assert (call.event_id, call.item) == ("i1:A", b"")
    assert lane.call(replace(unsent(call), to="failed", letter="{}")).event_id == "i2:A"
    assert (world.place("i1:A"), world.tally()["failed:A"]) == ("failed", 1)


def test_longest_queue_first_passes_over_a_type_whose_queue_holds_something_else(world):
    world.start(kind("A", priority=2), kind("B"), most="1")
    world.client.delete(world.keys.ready("A"))
    world.client.set(world.keys.ready("A"), "rubbish")

    assert world.lane().call().endpoint == "b"


def test_what_a_worker_holds_is_dropped_if_it_is_something_else(world):
    world.start(kind("A"))
    lane = world.lane()
    for use in (lambda: world.store.ledger.reap(lane.worker), lane.call):
        world.client.delete(world.keys.held(lane.worker))
        world.client.set(world.keys.held(lane.worker), "rubbish")
        use()
    world.client.hset(world.keys.held(lane.worker), "9", "1 2")
    assert world.store.ledger.reap(lane.worker) == 1


def test_a_wallet_that_is_no_text_is_an_error_of_redis_for_its_lane(world):
    """So the lane lives; the claim comes back when its lease ends."""
    world.start(kind("A"), events=1)
    world.client.hset(world.keys.event("i1:A"), "wallet", b"\xff")

    with pytest.raises(StoreGarbledError):
        world.lane().ask()


def test_an_overdue_event_whose_fields_hold_something_else_waits_again(world):
    world.start(kind("A"), events=1)
    call = world.lane().call()
    world.client.hset(world.keys.event(call.event_id), mapping=dict.fromkeys(("claims", "tried"), "x"))
    world.client.zadd(world.keys.due, {call.event_id: 1})

    assert world.lane(2).call().event_id == call.event_id


def test_a_dead_letter_that_cannot_be_written_changes_nothing(world):
    a = endpoint("a")
    world.start(kind("A", a))
    lane = world.lane()
    call = lane.call()
    world.client.set(world.keys.failed, "rubbish")

    with pytest.raises(StoreError):
        lane.ask(dead(call, health="failure"))

    assert "failures" not in world.health(a)
    assert world.client.xlen(world.keys.calls) == 0


# 1


def test_no_slot_is_taken_unless_its_windows_are_verified_over_endpoints_that_share_a_budget(world):
    shared = budget("account", "10 per 60 seconds")
    ends = [endpoint(f"e{number}", "100 per 1 second", shared) for number in range(60)]
    kinds = [kind(f"T{number}", *ends[6 * number : 6 * number + 6]) for number in range(10)]
    world.start(*kinds, events=10)

    calls = race(world, lanes=8, seconds=1.0)

    assert len(calls) == 10
    assert len(world.stamps(shared)) == 10


def test_out_of_tries_a_turn_answers_wait_1_ms(world):
    accounts = [budget(f"account{number}", "1 per 60 seconds") for number in range(2)]
    ends = [endpoint(f"e{number:03d}", "100 per 1 second", accounts[number % 2]) for number in range(120)]
    world.start(kind("A", *ends), events=5)
    lane = world.lane()
    call, _ = lane.call(), world.lane(2).call()

    assert lane.ask(completed(call)).wait == 1000
    assert lane.ask().wait > SHUT


@pytest.mark.parametrize("limit", ["20 per 0.3 seconds", "8 per 0.1 seconds; 30 per 1 second"])
def test_racing_lanes_never_make_more_calls_than_any_rule_allows(world, limit):
    shared = budget("account", limit)
    ends = [endpoint(f"e{number}", "5 per 0.2 seconds", shared) for number in range(8)]
    kinds = [kind("A", *ends[:5]), kind("B", *ends[3:])]
    world.start(*kinds, events=200)

    calls = race(world, lanes=6, seconds=1.5)

    for rule in shared.limit.rules:
        assert most_within([call.stamp for call in calls], rule.seconds + GUARD) <= rule.amount
        assert most_within([call.stamp for call in calls], 1.5) >= rule.amount
    for each in ends:
        assert most_within([call.stamp for call in calls if call.endpoint == each.name], 0.2 + GUARD) <= 5
    assert len({(call.event_id, call.number) for call in calls}) == len(calls)


# 2


def test_a_slot_given_back_is_free_for_all_endpoints_that_share_the_budget_and_wakes(world):
    shared = budget("account", "1 per 60 seconds")
    world.start(kind("A", endpoint("a", budget=shared)), kind("B", endpoint("b", budget=shared)), events=1)
    first, second = world.lane(1), world.lane(2)
    call = first.call()
    assert second.ask().wait > SHUT
    assert world.free("B")["b"] > world.now
    woken = world.woken()

    first.ask(unsent(call), nothing=True)

    assert "unsent" in woken.read()
    assert world.free("A")["a"] == world.free("B")["b"] == 0
    world.client.delete(world.keys.ready("A"))
    assert second.call().endpoint == "b"


def test_a_slot_taken_moves_only_the_endpoint_of_the_call_later(world):
    shared = budget("account", "1 per 60 seconds")
    world.start(kind("A", endpoint("a", budget=shared)), kind("B", endpoint("b", budget=shared)), events=1)

    world.lane().call()

    assert world.free("A")["a"] > world.now
    assert world.free("B")["b"] == 0


def test_a_resume_frees_every_endpoint_of_the_budget_and_wakes(world):
    a = endpoint("a")
    world.start(kind("A", a), kind("B"), events=1)
    world.store.rules.pause(a, "me")
    lane = world.lane()
    call = lane.call()
    assert call.endpoint == "b"
    woken = world.woken()

    world.store.rules.resume(a, "me")

    assert "resumed" in woken.read()
    assert lane.call(completed(call)).endpoint == "a"


def test_a_pause_holds_the_endpoint_until_its_end(world):
    a, b = endpoint("a"), endpoint("b")
    world.start(kind("A", a, b), events=3)
    world.store.rules.pause(a, "me", 0.3)
    lane = world.lane()

    call = lane.call()
    assert call.endpoint == "b"
    time.sleep(0.31)
    assert lane.call(completed(call)).endpoint == "a"


def test_a_run_waits_for_who_has_paused_all_that_is_left(world):
    """It may be resumed at any moment."""
    a = endpoint("a")
    world.start(kind("A", a), events=3)
    world.store.rules.pause(a, "me")
    lane = world.lane()
    assert lane.ask().wait > SHUT

    world.store.rules.resume(a, "me")

    assert lane.call().endpoint == "a"


def test_a_raised_limit_frees_every_endpoint_that_shares_the_window_and_wakes(world):
    shared = budget("account", "1 per 60 seconds")
    ends = endpoint("a", budget=shared), endpoint("b", budget=shared)
    world.start(kind("A", ends[0]), kind("B", ends[1]), events=1)
    lane = world.lane()
    call = lane.call()
    call_b = world.lane(2)
    assert call_b.ask().wait > SHUT
    woken = world.woken()

    world.store.rules.limit(shared, "2 per 60 seconds", "me")

    assert "rules" in woken.read()
    assert call_b.call().endpoint == "b"
    assert lane.ask(completed(call)).wait is not None


def test_a_limit_lowered_and_raised_again_forgets_no_call(world):
    a = endpoint("a", "4 per 60 seconds")
    world.start(kind("A", a), events=9)
    lanes = [world.lane(number) for number in range(8)]
    for lane in lanes[:3]:
        lane.call()

    world.store.rules.limit(a, "1 per 60 seconds", "me")
    assert lanes[4].ask().wait > SHUT
    world.store.rules.limit(a, "1 per 1 second", "me")
    assert lanes[4].ask().wait > 0
    world.store.rules.limit(a, "4 per 60 seconds", "me")

    lanes[4].call()
    assert lanes[5].ask().wait > SHUT
    assert len(world.stamps(a)) == 4


def test_a_longer_rule_waits_until_enough_calls_are_known(world):
    a = endpoint("a", "100 per 1 second")
    world.start(kind("A", a), events=9)
    lane = world.lane()
    call = lane.call()

    world.store.rules.limit(a, "100 per 20 seconds", "me")

    assert 18_000_000 < lane.ask(completed(call)).wait < 20_100_000


def test_a_well_answer_after_a_rest_frees_all_that_share_the_window(world):
    shared = budget("account", "6 per 0.1 seconds")
    a, b = endpoint("a", budget=shared), endpoint("b", budget=shared)
    world.start(kind("A", a), kind("B", b), events=9)
    open_breaker(world, a)
    lane = world.lane()
    world.client.delete(world.keys.ready("B"))
    time.sleep(0.2)
    world.client.hset(world.keys.endpoint(a.window_id), "rest", world.now)
    world.look_again()
    woken = world.woken()

    reply = lane.ask(completed(lane.call()))

    assert reply.reopened
    assert "well" in woken.read()
    assert not {"rest", "since", "failures"} & {*world.health(a)}


# 3


def test_five_failures_in_a_row_rest_an_endpoint_and_say_so_once(world):
    a = endpoint("a")
    world.start(kind("A", a), events=9)
    lane, opened = world.lane(), []

    call = lane.call()
    for _ in range(4):
        reply = lane.ask(failed(call, delay_us=50_000_000))
        opened.append(reply.opened)
        call = reply.call
    reply = lane.ask(failed(call, delay_us=50_000_000))

    assert opened == [0] * 4
    assert reply.opened == 1_000_000
    assert reply.wait is not None
    assert 900_000 < reply.wait <= 1_000_000


@pytest.mark.parametrize("connects", [False, True])
def test_an_answer_ends_a_rest_only_if_its_call_was_claimed_after_that_rest_began(world, connects):
    a = endpoint("a")
    world.start(kind("A", a), events=9)
    early = world.lane(9)
    call = early.call()
    open_breaker(world, a)
    if connects:  # only then did it leave
        call = replace(call, stamp=world.store.turns.restamp(call))

    reply = early.ask(completed(call))

    assert not reply.reopened
    assert int(world.health(a)["rest"]) > world.now
    assert "since" in world.health(a)


def test_a_failure_claimed_before_the_rest_began_does_not_lengthen_it(world):
    a = endpoint("a")
    world.start(kind("A", a), events=9)
    early = world.lane(9)
    call = early.call()
    open_breaker(world, a)
    before = world.health(a)

    early.ask(failed(call))

    assert world.health(a) == before


def test_one_probe_at_a_time_and_its_failure_doubles_the_rest(world):
    a = endpoint("a", "100 per 30 seconds")
    world.start(kind("A", a), events=9)
    open_breaker(world, a)
    end_rest(world, a)
    lane, other = world.lane(1), world.lane(2)

    probe = lane.call()
    world.store.turns.restamp(probe)  # it has connected
    assert other.ask().wait > 5_000_000  # the time-out of the probe
    reply = lane.ask(failed(probe, delay_us=50_000_000))

    assert 1_900_000 < reply.wait <= 2_000_000


def test_a_probe_that_is_given_back_gives_way_to_the_next(world):
    a = endpoint("a")
    world.start(kind("A", a), events=9)
    open_breaker(world, a)
    end_rest(world, a)
    lane = world.lane()

    lane.ask(unsent(lane.call()), nothing=True)

    assert world.lane(2).call().endpoint == "a"


def test_a_probe_that_is_refused_rests_as_long_as_the_server_asks(world):
    a = endpoint("a")
    world.start(kind("A", a), events=9)
    lane = world.lane()
    lane.ask(throttled(lane.call(), asked=0.0), nothing=True)
    probe = lane.call()

    reply = lane.ask(throttled(probe, asked=1.0))

    assert 900_000 < reply.wait <= 1_000_000


def test_an_answer_never_ends_the_rest_that_a_server_asked_for(world):
    a = endpoint("a")
    world.start(kind("A", a), events=9)
    first, second, third = (world.lane(number) for number in range(3))
    calls = [each.call() for each in (first, second, third)]

    reply = first.ask(throttled(calls[0], asked=20.0))
    assert 19_000_000 < reply.rested <= 20_000_000
    second.ask(completed(calls[1]))
    third.ask(throttled(calls[2], asked=1.0))

    assert world.lane(8).ask().wait > 19_000_000


@pytest.mark.parametrize(
    ("limit", "rested"), [("100 per 7 seconds", 7_000_000), ("900/day; 9 per 2 seconds", 2_000_000)]
)
def test_a_refusal_without_a_time_rests_its_shortest_period(world, limit, rested):
    world.start(kind("A", endpoint("a", limit)), events=9)
    lane = world.lane()

    reply = lane.ask(throttled(lane.call(), asked_us=-1))

    assert reply.rested == rested


def test_refusals_in_a_row_rest_longer_even_if_the_server_asks_for_nothing(world):
    a = endpoint("a", "100 per 7 seconds")
    world.start(kind("A", a), events=9)
    open_breaker(world, a)
    lane, rests = world.lane(), []
    for _ in range(3):
        end_rest(world, a)
        rests.append(lane.ask(throttled(lane.call(), asked=0.0), nothing=True).rested)

    assert rests == [0, 1_000_000, 2_000_000]
    assert not {"failures", "failed_with"} & {*world.health(a)}  # it answered


# 4


def test_moving_a_stamp_later_needs_no_ownership_and_inserts_it(world):
    a = endpoint("a")
    world.start(kind("A", a), events=1)
    lane = world.lane()
    call = lane.call()
    world.client.delete(world.keys.window(a.window_id))
    world.store.ledger.reap(lane.worker)
    before = world.stamps(a)["i1:A 1"]

    assert world.store.turns.restamp(call) == 0
    assert world.stamps(a)["i1:A 1"] > before


def test_a_stamp_never_moves_earlier(world):
    a = endpoint("a")
    world.start(kind("A", a), events=1)
    lane = world.lane()
    call = lane.call()

    lane.ask(completed(call, counts_us=30_000_000))

    assert world.stamps(a) == {"i1:A 1": call.stamp}


def test_a_call_counts_from_when_the_lane_says_that_it_was_read(world):
    a = endpoint("a")
    world.start(kind("A", a), events=1)
    lane = world.lane()
    call = lane.call()
    time.sleep(0.05)

    reply = lane.ask(completed(call, counts_us=10_000))

    assert world.stamps(a) == {"i1:A 1": reply.now - 10_000}


def test_removing_a_stamp_needs_ownership(world):
    a = endpoint("a")
    world.start(kind("A", a), events=1)
    lane = world.lane()
    call = lane.call()
    world.store.ledger.reap(lane.worker)

    assert not lane.ask(unsent(call), nothing=True).settled
    assert len(world.stamps(a)) == 1


@pytest.mark.parametrize(
    ("how", "what"), [("lease", "lease ended"), ("reap", "worker lost"), ("close", "cut by the deadline")]
)
def test_lease_end_reap_and_close_stamp_the_call_as_sent_now(world, how, what):
    a = endpoint("a")
    world.start(kind("A", a), events=1)
    lane = world.lane()
    call = lane.call()
    before = world.now

    match how:
        case "lease":
            world.client.zadd(world.keys.due, {call.event_id: world.now})
            world.lane(2).ask()
        case "reap":
            world.store.ledger.reap(lane.worker)
        case "close":
            assert world.store.runs.end(world.run.id, world.token)

    assert before <= world.stamps(a)["i1:A 1"] <= world.now
    assert world.tally()[f"trouble:a {what}"] == 1


def test_windows_are_trimmed_only_when_an_old_entry_stands_in_the_way(world):
    a = endpoint("a", "3 per 1 second")
    world.start(kind("A", a), events=9)
    lane = world.lane()
    call = lane.call()
    world.age(a, seconds=5)
    for slots in (2, 3, 3):
        call = lane.call(completed(call))
        assert len(world.stamps(a)) == slots


# 5


def test_a_server_that_is_not_trusted_gives_nothing_and_all_endpoints_are_held_for_their_longest_period(world):
    world.start(kind("A", endpoint("a", "100 per 30 seconds")), kind("B", endpoint("b", "100 per 10 seconds")))
    world.client.hset(world.keys.lease, "server", "another")
    lane = world.lane()

    reply = lane.ask()
    assert (reply.epoch, reply.call) == ("2", None)
    assert world.lease("server") == world.server
    assert "another server process" in world.lease("doubt")
    lane.epoch = "2"

    reply = lane.ask()
    assert 9_000_000 < reply.wait < 10_200_000


@pytest.mark.parametrize("epoch", ["", "0"])
def test_an_asker_that_knows_no_epoch_hears_it_and_gets_nothing(world, epoch):
    world.start(kind("A"))
    lane = world.lane()

    assert lane.ask(epoch=epoch).epoch == "1"
    assert lane.call()


def test_a_server_that_knows_an_older_epoch_has_forgotten_calls(world):
    world.start(kind("A", endpoint("a", "100 per 30 seconds")))
    lane = world.lane()

    reply = lane.ask(epoch="7")

    assert reply.epoch == "8"
    assert "a while ago" in world.lease("doubt")
    lane.epoch = "8"
    assert lane.ask().wait > 29_000_000


@pytest.mark.parametrize("off", [-2 * HELD_UP_US, 2 * HELD_UP_US])
def test_an_asker_whose_clock_disagrees_gets_nothing(world, off):
    world.start(kind("A"))
    lane = world.lane()

    assert lane.ask(expects=round(time.time() * 1_000_000) + off).clock
    assert lane.ask(expects=None).clock
    assert lane.call()


def test_a_step_that_many_report_holds_once(world):
    world.start(kind("A", endpoint("a", "100 per 30 seconds")))
    lanes = [world.lane(number) for number in range(5)]

    epochs = [lane.ask(stepped=3_000_000).epoch for lane in lanes]

    assert epochs == ["2"] * 5
    assert world.lease("epoch") == "2"
    assert "stepped by 3.000 s" in world.lease("doubt")
    doubted = world.lease("doubted_us")
    lanes[0].epoch = "2"
    assert lanes[0].ask().wait > 29_000_000
    assert world.lease("doubted_us") == doubted


def test_calls_ahead_of_a_clock_that_was_set_back_count_as_taken_now(world):
    a = endpoint("a", "2 per 3 seconds")
    world.start(kind("A", a), events=9, window=2 * HOUR)
    first, second = world.lane(1), world.lane(2)
    first.call()
    second.call()
    world.age(a, seconds=-HOUR)  # they are an hour ahead

    lane = world.lane(3)
    lane.epoch = lane.ask(stepped=-3_600_000_000).epoch

    assert lane.ask().wait < 3_200_000
    assert all(at <= world.now for at in world.stamps(a).values())


def test_a_breaker_can_be_closed_after_the_clock_was_set_back(world):
    a = endpoint("a", "100 per 1 second")
    world.start(kind("A", a), events=9, window=2 * HOUR)
    open_breaker(world, a)
    world.client.hset(world.keys.endpoint(a.window_id), "since", world.now + 3_600_000_000)
    lane = world.lane(1)
    lane.epoch = lane.ask(stepped=-3_600_000_000).epoch
    world.client.hset(world.keys.lease, "doubted_us", 1)
    end_rest(world, a)

    assert lane.ask(completed(lane.call())).reopened


def test_an_old_run_is_told_to_workers_with_another_configuration(world):
    world.start(kind("A"))

    assert world.lane().ask(revision="r2").outdated
    assert world.place("i1:A") == "ready"


# 6


def test_the_same_number_repeats_its_claim_if_it_still_owns_it(world):
    a = endpoint("a")
    world.start(kind("A", a), events=3)
    lane = world.lane()
    call = lane.call()

    assert lane.repeat().call == call
    assert len(world.stamps(a)) == 1


def test_the_same_number_gets_another_call_if_its_claim_was_lost(world):
    world.start(kind("A"), events=2)
    lane = world.lane()
    call = lane.call()
    world.store.ledger.reap(lane.worker)

    again = lane.repeat().call

    assert (call.event_id, again.event_id) == ("i1:A", "i2:A")


def test_a_repeated_ask_settles_once(world):
    world.start(kind("A"), events=3)
    lane = world.lane()
    second = lane.call(completed(lane.call()))

    assert lane.repeat().call.event_id == second.event_id
    assert world.tally()["completed:A"] == 1


def test_a_repeated_wait_is_worked_out_anew(world):
    world.start(kind("A", endpoint("a", "1 per 0.2 seconds")), events=3)
    lane = world.lane()
    assert lane.ask(completed(lane.call())).wait is not None
    time.sleep(0.26)

    assert lane.repeat().call.event_id == "i2:A"


def test_an_older_number_does_nothing(world):
    world.start(kind("A"), events=3)
    lane = world.lane()
    call = lane.call(n=5)

    reply = lane.ask(completed(call), n=4)

    assert reply.stale
    assert world.place(call.event_id) == "inflight"
    assert "completed:A" not in world.tally()


def test_a_newer_number_first_gives_back_unsent_what_it_did_not_settle(world):
    a = endpoint("a", "1 per 60 seconds")
    world.start(kind("A", a), events=2)
    lane = world.lane()
    first = lane.call()

    again = lane.call()

    assert again.event_id == first.event_id == "i1:A"
    assert again.number > first.number
    assert list(world.stamps(a).values()) == [again.stamp]
    assert not world.tally().get("errors:a")


def test_an_endpoint_that_is_gone_does_not_keep_a_lane_from_its_repeated_answer(world):
    world.start(kind("A"), kind("B"), events=2)
    lane = world.lane()
    call = lane.call()
    world.publish(kind("A", endpoint("other")), kind("B"))

    assert lane.repeat().call.event_id == call.event_id


# 7


def test_a_failure_told_three_times_counts_once(world):
    a = endpoint("a")
    world.start(kind("A", a), events=3)
    lane = world.lane()
    call = lane.call()
    failure = failed(call, delay_us=0)

    lane.ask(failure, nothing=True)
    lane.repeat()
    assert not lane.ask(failure, nothing=True).settled

    assert world.health(a)["failures"] == "1"
    assert world.tally()["errors:a"] == 1
    assert world.event("i1:A")["tried"].startswith("1 0 1 ")
    assert world.client.xlen(world.keys.calls) == 1


def test_a_worker_reaped_alive_settles_nothing(world):
    a = endpoint("a")
    world.start(kind("A", a), events=1)
    lane = world.lane()
    call = lane.call()
    world.store.ledger.reap(lane.worker)

    for settlement in (completed(call), failed(call), dead(call), throttled(call), unsent(call)):
        assert not lane.ask(settlement, nothing=True).settled

    assert world.place("i1:A") == "ready"
    assert world.health(a).keys() <= {"longest", "epoch", "named"}
    assert not world.client.exists(world.keys.failed)


def test_a_late_answer_changes_nothing_for_the_next_owner(world):
    world.start(kind("A"), events=1)
    first, second = world.lane(1), world.lane(2)
    call = first.call()
    world.store.ledger.reap(first.worker)
    again = second.call()
    assert again.event_id == call.event_id

    assert not first.ask(completed(call), nothing=True).settled
    assert world.place("i1:A") == "inflight"
    assert second.ask(completed(again)).settled


def test_what_a_stopping_lane_settled_wakes_the_others(world):
    """Rule 12: the run may be over, and nobody else knows."""
    world.start(kind("A"), events=1)
    lane = world.lane()
    call = lane.call()
    woken = world.woken()

    assert lane.ask(completed(call), nothing=True).nothing

    assert woken.read()
    assert world.lane(2).ask().close == world.run.id


# 8


def test_a_call_that_could_not_connect_gives_its_slot_back_and_is_counted_by_the_breaker(world):
    a = endpoint("a")
    world.start(kind("A", a), events=1)
    lane = world.lane()

    reply = lane.ask(unconnected(lane.call(), delay_us=300_000))

    assert not reply.elsewhere
    assert reply.wait <= 300_000
    assert world.place("i1:A") == "backoff"
    assert world.health(a)["failures"] == "1"
    assert not world.stamps(a)


def test_it_is_not_counted_if_another_host_succeeded_there_just_now(world):
    a = endpoint("a")
    world.start(kind("A", a), events=2)
    there, here = world.lane(1, "there:1:w"), world.lane(2)
    there.ask(completed(there.call()), nothing=True)
    at, _, host = world.health(a)["well"].partition(" ")
    world.client.hset(world.keys.endpoint(a.window_id), "well", f"{int(at) - 9_000_000} {host}")

    reply = here.ask(unconnected(here.call()), nothing=True)

    assert reply.elsewhere
    assert "failures" not in world.health(a)
    assert world.place("i2:A") == "backoff"
    assert "tries" not in world.event("i2:A")
    assert "attempt" not in world.event("i2:A")


def test_it_is_counted_if_this_host_succeeded_last_or_another_long_ago(world):
    a = endpoint("a")
    world.start(kind("A", a), events=3)
    there, here = world.lane(1, "there:1:w"), world.lane(2)
    there.ask(completed(there.call()), nothing=True)
    at, _, host = world.health(a)["well"].partition(" ")
    world.client.hset(world.keys.endpoint(a.window_id), "well", f"{int(at) - 11_000_000} {host}")

    assert not here.ask(unconnected(here.call()), nothing=True).elsewhere
    assert world.health(a)["failures"] == "1"


# 9


def close(world):
    """Close the open run, as the actor does."""
    assert world.store.runs.end(world.run.id, world.token)
    record = record_from(run_id=world.run.id)
    assert world.store.runs.close(world.run.id, record, world.store.runs.tally(), wanted=0) == 1


def test_a_close_revokes_every_claim_and_a_later_settlement_touches_windows_only(world):
    a = endpoint("a")
    world.start(kind("A", a), events=2)
    lanes = world.lane(1), world.lane(2)
    calls = [lane.call() for lane in lanes]
    assert world.store.runs.end(world.run.id, world.token)
    before, stamps = world.tally(), world.stamps(a)

    assert not lanes[0].ask(completed(calls[0], counts_us=0)).settled
    assert not lanes[1].ask(unsent(calls[1])).settled

    assert world.tally() == before
    assert world.stamps(a)["i1:A 1"] > stamps["i1:A 1"]
    assert world.stamps(a)["i2:A 1"] == stamps["i2:A 1"]
    assert world.place("i1:A") == world.place("i2:A") == "ready"
    assert {field: number for field, number in before.items() if field.startswith("errors")} == {"errors:a": 2}


def test_a_turn_after_the_deadline_answers_close(world):
    world.start(kind("A", seconds=0.01), window=0.2, events=2)
    lane, other = world.lane(1), world.lane(2)
    lane.call()
    time.sleep(0.25)
    assert other.ask().wait is not None  # the call in flight may still be answered
    time.sleep(0.3)

    assert other.ask().close == world.run.id
    assert world.store.runs.end(world.run.id)


def test_a_turn_answers_close_a_second_after_a_run_has_ended(world):
    """Whoever ended it may have died before it was closed. Another is asked a second later, and not before."""
    world.start(kind("A"))
    assert world.store.runs.end(world.run.id, world.token)
    lane = world.lane()
    assert lane.ask().wait == 1_000_000
    world.client.hset(world.keys.run, "ended_us", world.now - 1_000_001)

    assert lane.ask().close == world.run.id
    assert world.lane(2).ask().wait == 1_000_000


def test_a_turn_answers_close_when_nothing_is_ready_or_due_or_still_to_drain(world):
    world.start(kind("A"), events=1)
    world.store.runs.note(world.token, world.run.id, draining="1")
    first, second = world.lane(1), world.lane(2)
    call = first.call()
    assert second.ask().wait is not None
    assert not world.store.runs.end(world.run.id)

    assert first.ask(completed(call)).wait is not None
    woken = world.woken()
    world.store.runs.note(world.token, world.run.id, gone=["draining"])

    assert woken.read() == ["draining"]
    assert second.ask().close == world.run.id
    assert world.store.runs.end(world.run.id)


def test_an_event_that_backs_off_until_after_the_deadline_does_not_keep_a_run_open(world):
    world.start(kind("A"), window=10.0, events=1)
    lane = world.lane()

    assert lane.ask(failed(lane.call(), delay_us=60_000_000)).close == world.run.id
    assert world.store.runs.end(world.run.id)
    assert world.place("i1:A") == "ready"


def test_a_spent_event_waits_for_the_next_run(world):
    world.start(kind("A"), events=1)
    lane = world.lane()

    reply = lane.ask(failed(lane.call(), to="spent"))

    assert reply.close == world.run.id
    assert world.place("i1:A") == "backoff"
    close(world)
    world.open()
    call = world.lane(2).call()
    assert (call.event_id, call.attempt, call.tries, call.runs) == ("i1:A", 1, 0, 1)


def test_an_event_that_backs_off_keeps_a_run_open_and_is_ready_at_its_end(world):
    world.start(kind("A"), events=1)
    lane = world.lane()
    reply = lane.ask(failed(lane.call(), delay_us=200_000))
    assert 150_000 < reply.wait <= 200_000
    assert not world.store.runs.end(world.run.id)
    time.sleep(reply.wait / 1_000_000 + 0.002)

    call = lane.call()

    assert (call.event_id, call.attempt, call.tries) == ("i1:A", 1, 1)


def test_a_cancelled_run_gives_nothing_and_is_closed_at_its_deadline_whoever_died(world):
    world.start(kind("A"), window=0.5)
    world.ready("A")
    woken = world.woken()

    world.store.runs.cancel(world.run.id)

    assert woken.read() == ["cancelled"]
    wait = world.lane().ask().wait
    assert 0 < wait <= 800_001
    time.sleep(wait / 1_000_000)
    assert world.lane().ask().close == world.run.id


def test_without_a_run_it_is_over(world):
    world.publish(kind("A"))
    world.ready("A")

    assert world.lane().ask().over


# 10


@pytest.mark.parametrize(("timeout", "window", "ends"), [(3.0, 60.0, 5.0), (30.0, 10.0, 12.0)])
def test_a_lease_ends_two_seconds_after_the_time_out_or_the_deadline(world, timeout, window, ends):
    world.start(kind("A", endpoint("a", timeout=timeout)), window=window)

    call = world.lane().call()

    ends_us = world.client.zscore(world.keys.due, call.event_id)
    assert ends_us == pytest.approx(call.stamp + ends * 1_000_000, abs=200_000)


def test_a_lease_counts_from_when_a_call_leaves_that_had_to_connect_first(world):
    world.start(kind("A", endpoint("a", timeout=5.0)), events=1)
    lane = world.lane()
    call = lane.call()
    world.client.zadd(world.keys.due, {call.event_id: call.stamp + 4_000_000})

    moved = world.store.turns.restamp(call)

    assert world.client.zscore(world.keys.due, call.event_id) == moved + 7_000_000


def test_a_lease_covers_the_longest_time_out_of_the_types_that_share_an_endpoint(world):
    world.start(kind("A", endpoint("both", timeout=9.0)), kind("B", endpoint("both", timeout=1.0)))

    call = world.lane().call()

    assert world.client.zscore(world.keys.due, call.event_id) >= call.stamp + 11_000_000


# 13


def test_open_run_repeated_answers_the_run_there_is(world):
    world.publish(kind("A"))
    world.ready("A", 2)
    run = world.open()
    later = type(run)(
        "another", run.state, run.trigger, run.started_at, run.deadline, run.deadline_us, run.window_seconds, "r9"
    )

    assert world.store.runs.open(world.token, later, ["A"]) == run.id
    assert world.store.runs.current().revision == "r1"
    assert world.tally()["carried:A"] == 2
    assert world.store.runs.end(run.id, world.token)
    assert world.store.runs.open(world.token, later, ["A"]) == run.id  # it is not recorded yet


def test_a_deposed_conductor_opens_and_ends_nothing(world):
    world.publish(kind("A"))
    run = world.open()

    for deposed in (
        lambda: world.store.runs.end(run.id, world.token - 1),
        lambda: world.store.rules.publish(0, (), {}),
    ):
        with pytest.raises(StoreError):
            deposed()

    assert world.store.runs.is_open(run.id)


# 15


def test_an_orderly_stop_is_no_doubt(world):
    world.start(kind("A"))
    world.client.hset(world.keys.lease, mapping={"server": "before", "parted": "before"})
    lane = world.lane()

    assert lane.call()
    assert world.lease("server") == world.server
    assert not world.lease("parted")
    assert world.lease("epoch") == "1"


def test_a_rule_longer_than_an_hour_is_charged_with_the_calls_of_a_minute(world):
    a = endpoint("a", "10 per 2 hours; 100 per 1 second")
    world.start(kind("A", a), events=20)
    lane = world.lane()
    call = lane.call()
    for _ in range(3):
        call = lane.call(completed(call))
    lane.epoch = lane.ask(completed(call), stepped=200_000).epoch
    assert lane.ask().wait < 1_200_000  # only the second is held
    time.sleep(1.1)

    made = 0
    while (reply := lane.ask()).call:
        made += 1
        lane.ask(completed(reply.call), nothing=True)

    assert made == 10 - 4 - 4


# 16


def test_after_a_death_an_event_goes_behind_the_others_of_its_priority(world):
    world.publish(kind("A"))
    high = world.ready("A", 3, priority=2)
    low = world.ready("A", 1, priority=1)
    world.open()
    lane = world.lane()
    lane.call()

    assert world.store.ledger.reap(lane.worker) == 1

    other, found = world.lane(1, "here:2:v"), []
    reply = other.ask()
    while reply.call:
        found.append(reply.call.event_id)
        reply = other.ask(completed(reply.call))
    assert found == [high[1], high[2], high[0], *low]


def test_three_deaths_make_a_dead_letter_unless_rlm_caused_them(world):
    world.start(kind("A"), events=1)
    for number in range(3):
        lane = world.lane(1, f"here:{number}:v")
        lane.call()
        assert world.store.ledger.reap(lane.worker, died=False) == 1
    for number in range(3):
        lane = world.lane(1, f"here:{number}:w")
        lane.call()
        world.store.ledger.reap(lane.worker)

    assert world.place("i1:A") == "failed"
    assert world.tally()["failed:A"] == 1
    assert world.client.llen(world.keys.failed) == 1
    assert world.store.ledger.reap("here:2:w") == 0


def test_of_those_that_were_with_two_workers_as_they_died_one_is_called_at_a_time(world):
    """However long the next worker takes to come up: only the one that kills it dies with it."""
    world.start(kind("A"), events=2)
    for number in range(2):
        for lane in (1, 2):
            world.lane(lane, f"here:{number}:w").call()
        world.store.ledger.reap(f"here:{number}:w")
    killer, other = world.lane(1, "here:2:w"), world.lane(2, "here:2:w")

    killed = killer.call().event_id
    assert other.ask().wait == 1000
    world.store.ledger.reap(killer.worker)
    (spared,) = {"i1:A", "i2:A"} - {killed}

    assert (world.place(killed), world.place(spared)) == ("failed", "backoff")
    world.client.zadd(world.keys.due, {f"later {spared}": 0})
    assert world.lane(1, "here:3:w").call().event_id == spared


def test_a_reap_wakes_and_takes_only_what_the_dead_worker_has(world):
    world.start(kind("A"), events=3)
    dying, living = world.lane(1, "here:1:w"), world.lane(1, "here:11:w")
    dying.call()
    call = living.call()
    woken = world.woken()

    assert world.store.ledger.reap(dying.worker) == 1

    assert woken.read() == ["reaped"]
    assert living.ask(completed(call)).settled


# 17


def test_a_retry_looks_at_the_first_eight_for_one_that_has_not_just_failed_there(world):
    other = endpoint("full", "1 per 30 seconds")
    world.client.zadd(world.keys.window(other.window_id), {"earlier": world.now})
    world.start(kind("A", endpoint("a"), other), events=9)
    lane = world.lane()
    for _ in range(3):
        lane.ask(failed(lane.call(), delay_us=0, health=""), nothing=True)
    time.sleep(0.002)

    assert lane.call().event_id == "i4:A"


@pytest.mark.parametrize("is_paused", [False, True])
def test_a_retry_that_no_other_endpoint_will_take_goes_in_its_turn(world, is_paused):
    other = endpoint("b")
    world.start(kind("A", endpoint("a"), *([other] if is_paused else [])), events=9)
    if is_paused:
        world.store.rules.pause(other, "me")
    lane = world.lane()
    lane.ask(failed(lane.call(), delay_us=0, health=""), nothing=True)
    time.sleep(0.002)

    assert lane.call().event_id == "i1:A"


def test_if_all_of_them_have_the_first_goes_anyway(world):
    world.start(kind("A", endpoint("a")), events=9)
    lane = world.lane()
    for number in range(1, 9):
        world.client.hset(world.keys.event(f"i{number}:A"), mapping={"tried": f"1 0 1 {world.run.id} a"})

    assert lane.call().event_id == "i1:A"


def test_if_all_of_them_have_the_first_goes_to_another_endpoint_that_is_free(world):
    world.start(kind("A", endpoint("a"), endpoint("full", "1 per 60 seconds"), endpoint("b")), events=3)
    lane = world.lane()
    world.client.zadd(world.keys.window(endpoint("full").window_id), {"earlier": world.now})
    for number in range(1, 4):
        world.client.hset(world.keys.event(f"i{number}:A"), mapping={"tried": f"1 0 1 {world.run.id} a"})

    call = lane.call()

    assert (call.event_id, call.endpoint) == ("i1:A", "b")
    assert list(world.stamps(endpoint("b"))) == ["i1:A 1"]


def test_an_event_that_failed_elsewhere_or_in_an_earlier_run_goes_in_its_turn(world):
    world.start(kind("A", endpoint("a")), events=2)
    world.client.hset(world.keys.event("i1:A"), mapping={"tried": "1 0 1 an-earlier-run a"})

    assert world.lane().call().event_id == "i1:A"


# The storage of `limits` beside lanes: see rlm/limits_storage.py.


def test_turns_and_other_programs_together_never_exceed_the_limit(world):
    shared = budget("account", "12 per 0.3 seconds")
    a, b = endpoint("a", "8 per 0.3 seconds", shared), endpoint("b", "8 per 0.3 seconds", shared)
    world.start(kind("A", a, b), events=400)
    stop, taken = threading.Event(), 0

    def others():
        nonlocal taken
        while not stop.is_set():
            taken += world.store.windows.take(a) == 0
            time.sleep(0.002)

    with ThreadPoolExecutor(1) as pool:
        pool.submit(others)
        race(world, lanes=3, seconds=1.2)
        stop.set()

    for limited in (a, b, shared):
        (rule,) = limited.limit.rules
        assert most_within(world.stamps(limited).values(), rule.seconds + GUARD) <= rule.amount
    assert taken
    names = Counter(name.startswith("shared:") for name in world.stamps(shared))
    assert names.total() >= 1


@pytest.mark.parametrize("between", ["2 per 60 seconds", "5 per 1 second", "40 per 60 seconds"])
def test_so_it_is_when_the_limit_was_changed_and_changed_back(world, between):
    a = endpoint("a", "6 per 60 seconds")
    world.start(kind("A", a), events=40)
    for number in range(2):
        world.lane(number).call()
        assert world.store.windows.take(a) == 0

    world.store.rules.limit(a, between, "me")
    world.lane(5).ask()
    world.store.rules.limit(a, "6 per 60 seconds", "me")

    made = sum(bool(world.lane(number).ask().call) for number in range(10, 20))
    known = 4 + (between != "2 per 60 seconds")
    assert made == 6 - known
    assert world.store.windows.take(a) > 50


def test_another_program_waits_until_enough_calls_are_known_for_its_longer_rule(world):
    a = endpoint("a", "5 per 0.1 seconds")
    world.start(kind("A", a), events=4)
    world.lane().call()

    assert world.store.windows.take(endpoint("a", "5 per 30 seconds")) > 29
    assert world.lane(2).ask().call  # RLM's own rule knows enough


def test_calls_that_are_forgotten_count_for_a_longer_rule(world):
    a = endpoint("a", "2 per 0.1 seconds")
    world.start(kind("A", a), events=9)
    for number in range(2):
        world.lane(number).call()
    time.sleep(0.2)
    world.store.rules.pause(a, "me")
    world.store.rules.resume(a, "me")  # all are old, and stand in the way

    world.store.rules.limit(a, "2 per 60 seconds", "me")

    assert world.lane(3).ask().call is None


def test_a_longer_rule_that_was_taken_back_holds_nothing(world):
    a = endpoint("a", "5 per 0.1 seconds")
    world.start(kind("A", a), events=4)
    world.lane().call()
    world.store.rules.limit(a, "10 per day", "me")
    assert world.lane(2).ask().call is None

    world.store.rules.limit(a, "5 per 0.1 seconds", "me")

    assert world.lane(2).ask().call


def test_the_window_of_other_programs_does_not_grow(world):
    a = endpoint("a", "3 per 0.05 seconds")
    world.publish(kind("A", a))
    until = time.monotonic() + 0.8
    while time.monotonic() < until:
        world.store.windows.take(a)
        time.sleep(0.005)

    assert len(world.stamps(a)) <= 6


def test_another_program_gets_nothing_while_no_server_is_trusted(world):
    """As after a Redis was emptied: rule 5."""
    a = endpoint("a", "9 per 1 second")
    world.start(kind("A", a))
    world.client.hdel(world.keys.lease, "server")

    assert world.store.windows.take(a) > 0
    assert world.stamps(a) == {}


def test_another_program_gets_nothing_while_the_endpoint_rests_or_is_paused_or_held(world):
    a = endpoint("a", "9 per 10 seconds")
    world.publish(kind("A", a))

    for field, at in (("rest", 5.0), ("pause", 5.0), ("known", -5.0 - GUARD)):
        world.client.hset(world.keys.endpoint(a.window_id), field, world.now + round(at * 1_000_000))
        assert 4 < world.store.windows.take(a) <= 5, field
        world.client.hdel(world.keys.endpoint(a.window_id), field)
    world.client.hset(world.keys.lease, "doubted_us", world.now)
    assert 9 < world.store.windows.take(a) <= 10.1


# Helpers.


# What an adversary of the engine has found: forgotten events, huge windows, limits set at any moment.


def test_an_event_that_was_forgotten_and_comes_again_counts_anew(world):
    """With `queue.dedupe_seconds = 0`, or after its letter was retried, its earlier call still counts."""
    own = endpoint("a", "2 per 10 second")
    world.start(kind("A", own), events=1)
    lane = world.lane()
    first = lane.call()
    lane.ask(completed(first))
    world.client.delete(world.keys.event(first.event_id))
    world.events.clear()
    assert world.ready("A", 2)[0] == first.event_id
    world.publish(*world.types)

    second = lane.call()

    assert second.event_id == first.event_id
    assert len(world.stamps(own)) == 2
    assert lane.ask(completed(second)).wait


def test_a_late_answer_for_a_forgotten_event_settles_nothing_of_its_next_claim(world):
    """Redis was emptied while a lane called; the event came again, and the same lane got it."""
    world.start(kind("A"), events=1)
    lane = world.lane()
    first = lane.call()
    world.client.delete(world.keys.event(first.event_id), world.keys.held(lane.worker), world.keys.due)
    world.events.clear()
    world.ready("A")
    world.publish(*world.types)
    second = lane.call(n=1)
    assert second.event_id == first.event_id

    assert not lane.ask(completed(first), nothing=True, n=2).settled


def test_a_program_with_a_shorter_rule_forgets_no_call(world):
    own = endpoint("a", "3 per 10 second")
    world.start(kind("A", own))
    fill(world, own, 3, 2.0)

    world.store.windows.take(endpoint("a", "1 per 1 second"))
    world.store.windows.take(endpoint("a", "1 per 1 second"))

    assert len(world.stamps(own)) == 4
    world.look_again()
    assert world.lane().ask().wait


def test_what_a_budget_has_counted_is_brought_in_once_and_not_at_each_publication(world):
    """With 100 endpoints and 100,000 calls a minute Redis stood still for half a minute."""
    shared = budget("acct", "100000 per 1 minute")
    alone, together = endpoint("a"), endpoint("a", budget=shared)
    world.publish(kind("A", alone))
    fill(world, alone, 3, 1.0)
    world.publish(kind("A", together))
    assert len(world.stamps(shared)) == 3

    unions = commands(world, "zunionstore")
    world.publish(kind("A", together))

    assert commands(world, "zunionstore") == unions


def test_a_window_of_many_calls_is_trimmed_a_thousand_at_a_time(world):
    own = endpoint("a", "2500 per 1 second")
    world.start(kind("A", own))
    fill(world, own, 2500, 5.0)

    sizes = []
    for number in range(1, 4):
        world.lane(number).call()
        sizes.append(len(world.stamps(own)))

    assert sizes[0] == 1501
    assert sizes[2] <= 1503  # fewer than the limit harm nobody


def test_a_conductor_that_published_the_limit_before_takes_up_the_one_set_by_hand(world):
    """It had read the limits just before they were changed, and published what was to be expected just after."""
    before, by_hand = endpoint("a", "5 per 1 second"), endpoint("a", "2 per 1 second")
    world.start(kind("A", before))
    rules = world.store.rules
    rules.adjust(world.token, world.types, {})
    world.store.rules.limit(before, by_hand.limit.text, "me")
    rules.publish(world.token, world.types, {})

    rules.adjust(world.token, (kind("A", by_hand),), {})

    entry = read_rules(world.client.hget(world.keys.rules, "a"))
    assert entry.windows[0].rules == [[2, round((1 + GUARD) * 1_000_000)]]


def test_a_record_balances_though_its_tally_was_deleted(world):
    world.start(kind("A"), events=3)
    lane = world.lane()
    call = lane.call()
    world.client.delete(world.keys.tally)
    lane.ask(completed(call), nothing=True)

    counts = make_record(world.store.settings, world.run, ending_of(world.tally())).counts

    assert (counts.taken, counts.completed, counts.leftover) == (1, 1, 0)


def race(world, lanes, seconds):
    """Let lanes in threads of their own make calls for so long; return the calls."""
    ends = time.monotonic() + seconds

    def carry(number):
        lane, calls, settlement = world.lane(number, f"here:{number}:w"), [], None
        while time.monotonic() < ends:
            reply = lane.ask(settlement)
            settlement = None
            if reply.call:
                calls.append(reply.call)
                settlement = completed(reply.call)
            elif reply.wait is not None:
                time.sleep(min(reply.wait / 1_000_000 + 0.0005, max(0.0, ends - time.monotonic())))
            else:
                break
        if settlement:
            lane.ask(settlement, nothing=True)
        return calls

    with ThreadPoolExecutor(lanes) as pool:
        return [call for calls in pool.map(carry, range(lanes)) for call in calls]


def open_breaker(world, limited):
    """Let an endpoint fail until it rests."""
    lane = world.lane(99, "there:9:w")
    for _ in range(5):
        lane.ask(failed(lane.call(), delay_us=50_000_000), nothing=True)
    assert "rest" in world.health(limited)


def end_rest(world, limited):
    """Let the rest of an endpoint be over."""
    world.client.hset(world.keys.endpoint(limited.window_id), "rest", world.now)
    world.look_again()


def fill(world, limited, number, seconds_ago):
    """Let a window have so many calls."""
    key, at = world.keys.window(limited.window_id), world.now - round(seconds_ago * 1_000_000)
    for first in range(0, number, 5000):
        world.client.zadd(key, {f"old{n}:A {n}": at - n for n in range(first, min(first + 5000, number))})


def commands(world, name):
    """Return how often a command has run, in scripts too."""
    stats = world.client.info("commandstats")
    return stats.get(f"cmdstat_{name}", {}).get("calls", 0)
