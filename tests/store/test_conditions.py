"""What is not well is found, with its subject and a remedy that is true, and is said once as it begins and ends."""

from __future__ import annotations

import logging
import time

import pytest
import redis

from rlm.admin import conditions as finding
from rlm.admin import watch as watching
from rlm.admin.conditions import conditions, leader, revision_in_force, ticks_every_seconds
from rlm.admin.watch import Watch
from rlm.core.documents import CallCounts, CallTrouble, Cause, RunCounts
from rlm.core.errors import StoreUnreachableError
from rlm.delivery.run_end import make_record
from rlm.ledger.books import read_ending
from rlm.ledger.leases import present
from rlm.ledger.processes import Process, Role, WorkerState
from rlm.ledger.store import Store
from rlm.settings import apart_of
from tests.each import each
from tests.store import steps
from tests.store.windows import pass_time, set_record
from tests.values import replace

#: A moment to come, microseconds of Redis time.
LATER = 60_000_000


def enter(store, role, name, **facts):
    """Let a process announce itself, with the configuration of the store by default."""
    usual = {"revision": store.settings.revision, "host": name.partition(":")[0]}
    usual["apart"] = apart_of(store.settings.event_types)
    store.processes.announce(role, Process(name, 7, started_at=1.0, **usual | facts))


@pytest.fixture
def led(store):
    """The store of an installation that is well: a scheduler leads, a supervisor lives."""
    enter(store, Role.SCHEDULER, "h:1:a")
    enter(store, Role.SUPERVISOR, "h:2:b")
    store.leases.contend("h:1:a", 600.0)
    return store


def token(store):
    return store.leases.contend("h:1:a", 600.0).token


def found(store):
    return {(each.code, each.subject): each for each in conditions(store)}


def fail(store, name, **fields):
    """Let an endpoint rest after failures."""
    later = store.now_us() + LATER
    facts = {
        "failures": 5,
        "rest": later,
        "opened_us": store.now_us(),
        "since": store.now_us(),
        "failed_with": "connection refused",
        **fields,
    }
    set_record(store, store.settings.endpoints[name], **facts)


def test_an_installation_that_is_well_has_none(led):
    assert found(led) == {}


@each(
    "why",
    ["connection refused", "TLS certificate expired", "no resolver answers", "HTTP 401", "no answer in time", "odd"],
)
def test_an_endpoint_that_fails_is_named_with_how_and_what_to_do_about_that(led, why):
    fail(led, steps.ENDPOINT, failed_with=why)

    condition = found(led)["endpoint_failing", steps.ENDPOINT]

    assert why in condition.sentence
    assert "127.0.0.1:8090" in condition.sentence
    assert condition.since
    fixes = {"HTTP 401": "headers", "no resolver answers": "/etc/resolv.conf", "TLS certificate expired": "renew"}
    assert fixes.get(why, "127.0.0.1:8090") in condition.remedy


def test_a_type_with_events_and_without_an_endpoint_that_works_is_an_error(led):
    """One of its endpoints is not; without events nobody needs it; of all types, nothing is delivered."""
    kind = led.settings.types[steps.TYPE]
    names = [endpoint.name for endpoint in kind.endpoints]
    steps.push(led, *steps.items(2, steps.TYPE))
    steps.start_run(led, token(led))
    for name in names[1:]:
        fail(led, name)
    assert "no_endpoint" not in {code for code, _ in found(led)}
    fail(led, names[0])
    assert ("no_endpoint", steps.TYPE) in found(led)
    led.rules.pause(led.settings.endpoints[names[1]], "op@h")
    assert f"rlm endpoint resume {names[1]}`" in found(led)["no_endpoint", steps.TYPE].remedy
    led.rules.resume(led.settings.endpoints[names[1]], "op@h")
    for name in led.settings.endpoints:
        fail(led, name)
    assert [subject for code, subject in found(led) if code == "no_endpoint"] == ["any type"]
    severities = [condition.severity for condition in conditions(led)]
    assert severities == ["error"] + ["warning"] * len(led.settings.endpoints)  # the worst first


def test_an_endpoint_that_throttles_and_one_that_is_used_up_are_told_from_one_that_fails(led):
    endpoint = led.settings.endpoints[steps.ENDPOINT]
    set_record(led, endpoint, rest=led.now_us() + LATER, since=led.now_us(), refusals=1)
    assert endpoint.limit.text in found(led)["endpoint_throttled", steps.ENDPOINT].remedy


@each("number", [0, 3])
def test_calls_beyond_a_limit_are_of_the_endpoint_until_the_next_run_is_looked_over(led, number):
    close_one(led)
    led.leases.note_end("", {steps.ENDPOINT: number})

    assert (("limit_exceeded", steps.ENDPOINT) in found(led)) == bool(number)


def close_one(store, **changes):
    """Run an empty run to its record, changed."""
    run = steps.start_run(store, token(store))
    steps.finish(store, token(store), run)
    record = replace(make_record(store.settings, run, read_ending(store, run)), **changes)
    store.runs.close(run.id, record, store.runs.tally(), wanted=0)


def test_a_failed_run_is_an_error_until_the_next_one_ends(led):
    close_one(led, state="failed", failure="no worker came up")
    assert "no worker came up" in found(led)["run_failed", "last run"].sentence
    close_one(led)
    assert ("run_failed", "last run") not in found(led)


def test_a_backlog_that_grows_over_three_windows_is_told(led):
    for left in (1, 2, 3):
        close_one(led, counts=RunCounts(leftover=left))
    assert "1, 2, 3" in found(led)["backlog_grows", "leftovers"].sentence


def test_what_the_calls_of_a_run_show_is_told_of_the_endpoint_until_another_run_calls_it(led):
    """A web page that may be a login page; answers that take nearly the whole time-out; every call rejected."""
    slow, calls = CallCounts(calls=20, completed=20, p95_ms=9_000.0), CallCounts(calls=7, completed=7, p95_ms=9.0)
    third = led.settings.types[steps.TYPE].endpoints[2].name
    shown = {steps.ENDPOINT: slow, steps.OVERFLOW: calls, third: CallCounts(calls=7, errors=7)}
    troubles = [
        CallTrouble(endpoint=name, address="127.0.0.1:8090", what=what, calls=7)
        for name, what in ((steps.OVERFLOW, "web page"), (third, "HTTP 422"))
    ]
    close_one(led, by_endpoint=shown, troubles=tuple(troubles))
    words = {"endpoint_slow": "20 calls", "answers_html": "7 calls", "endpoint_rejects": "HTTP 422"}
    assert {code for code, _ in found(led)} == {*words}
    assert all(words[code] in each.sentence for (code, _), each in found(led).items())

    led.notes.note({f"{code} {subject}": 1.0 for code, subject in found(led)}, ())
    for _ in range(4):
        close_one(led)
    assert {code for code, _ in found(led)} == {*words}
    close_one(led, by_endpoint=dict.fromkeys(shown, calls))
    assert found(led) == {}


@each(("cause", "is_told"), [("slots", True), ("lanes", True), ("resting", False), ("workers", False), ("held", False)])
def test_leftovers_are_told_unless_their_cause_is_a_condition_itself(led, cause, is_told):
    why = Cause(cause=cause, types=(steps.TYPE,), leftover=3, sentence="3 events left over")
    close_one(led, state="partial", why=(why,))

    assert (("leftovers", "last run") in found(led)) == is_told
    led.rules.limit(led.settings.endpoints[steps.ENDPOINT], "31/minute", "op@h")
    assert (("leftovers", "last run") in found(led)) == (is_told and cause != "slots")


def test_what_to_do_about_leftovers_follows_the_answers_of_the_open_run(led):
    """Start the API, and a run; in a run, start the API; once that answers, nothing. Never another type's API."""
    why = Cause(cause="retries", types=(steps.TYPE,), leftover=1, sentence="1 event left over")
    trouble = CallTrouble(endpoint=steps.ENDPOINT, address="127.0.0.1:8090", what="connection refused", calls=3)
    other = CallTrouble(endpoint="open_order_api", address="127.0.0.1:8091", what="HTTP 401", calls=4)
    close_one(led, state="partial", why=(why,), troubles=(other, trouble))

    def remedy():
        return found(led)["leftovers", "last run"].remedy

    assert "HTTP 401" not in found(led)["leftovers", "last run"].sentence
    assert ("start the API" in remedy(), "rlm start" in remedy()) == (True, True)
    steps.push(led, steps.item("i1", steps.TYPE))
    steps.start_run(led, token(led))
    assert ("start the API" in remedy(), "rlm start" in remedy()) == (True, False)
    led.client.hset(led.keys.tally, f"delivered:{steps.ENDPOINT}", 1)
    assert "start the API" not in remedy()


def test_slots_that_are_used_up_for_longer_than_a_window_are_told(make_store):
    """With when the next one comes; those that come back within the window are not."""
    store = make_store(run={"window_seconds": 30.0})
    enter(store, Role.SCHEDULER, "h:1:a")
    enter(store, Role.SUPERVISOR, "h:2:b")
    store.leases.contend("h:1:a", 600.0)
    endpoint = store.settings.endpoints[steps.ENDPOINT]
    while store.windows.take(endpoint) == 0:
        pass

    condition = found(store)["endpoint_full", steps.ENDPOINT]
    assert "30/minute" in condition.sentence
    pass_time(store, endpoint, 40.0)
    assert found(store) == {}


def test_a_host_cut_off_is_told_and_not_where_the_endpoint_fails_for_all(led):
    enter(led, Role.WORKER, "h:3:c", state=WorkerState.READY)
    enter(led, Role.WORKER, "g:3:c", state=WorkerState.READY, sleeping="it can connect to no endpoint: name not found")
    assert "name not found" in found(led)["host_cut_off", "g"].sentence

    fail(led, steps.ENDPOINT, failed_with="name not found")

    assert ("host_cut_off", "g") not in found(led)


def test_a_process_that_died_is_told_until_its_successor_lives_on_that_host(led, monkeypatch):
    monkeypatch.setattr(finding, "HEARTBEAT_TTL_SECONDS", 0.0)  # the server may have just started
    led.client.hset(led.keys.processes, "supervisor g:9:z", "1 -")  # heard from long ago
    assert ("host_silent", "g") in found(led)

    enter(led, Role.SUPERVISOR, "g:10:y")

    assert ("host_silent", "g") not in found(led)


def test_what_keeps_a_process_from_its_work_is_told(led):
    enter(led, Role.SCHEDULER, "h:1:a", trouble="the archive cannot be written (disk full)")
    led.client.hset(led.keys.processes, "wanted", 1)
    enter(led, Role.SUPERVISOR, "h:2:b", trouble="workers end as they start on h, the last by SIGKILL")

    assert "disk full" in found(led)["no_archive", "h"].sentence
    assert "by SIGKILL" in found(led)["no_worker", "workers"].sentence


def test_a_redis_that_refuses_writes_is_unfit_and_no_process_is_missed_for_it(led, monkeypatch):
    """Nobody can announce itself there."""
    led.client.config_set("min-replicas-to-write", "1")
    try:
        codes = {code for code, _ in found(led)}
    finally:
        led.client.config_set("min-replicas-to-write", "0")
    assert codes == {"redis_unfit"}


def test_the_configuration_in_force_is_that_of_the_scheduler_that_leads(store):
    """Not that of the file that was read here, nor of the standby that has been there for longest."""
    settings = store.settings
    there = present(store)
    assert (ticks_every_seconds(store, there), revision_in_force(store, there)) == (180.0, settings.revision)
    enter(store, Role.SCHEDULER, "h:1:a", ticks_every=77.0)
    enter(store, Role.SCHEDULER, "h:2:b", revision="another", ticks_every=12.0)

    store.leases.contend("h:2:b", 20.0)

    there = present(store)
    assert leader(there).id == "h:2:b"
    assert (ticks_every_seconds(store, there), revision_in_force(store, there)) == (12.0, "another")


def test_that_nobody_leads_for_a_while_after_types_changed_is_told_and_pages_nobody(led):
    """As long as a process with the former ones lives it has to be restarted, and then it pages."""
    led.client.hset(led.keys.lease, "apart", "former types")
    assert found(led) == {}
    led.leases.release("h:1:a")
    assert "h:1:a" not in found(led)["other_configuration", "scheduler"].sentence
    assert conditions(led)[0].severity == "warning"

    enter(led, Role.WORKER, "h:9:z", apart="former types")
    assert "pid 7 on h" in found(led)["no_scheduler", "scheduler"].remedy


def test_a_file_that_was_changed_is_named_once_and_by_a_process_that_still_lives(led):
    """Of the command that looks it is only told if no process has read the same."""
    where = {"file": str(led.settings.source), "host": led.settings.host_name}
    enter(led, Role.SCHEDULER, "h:1:a", **where)
    with Store(replace(led.settings, revision="another"), led.url) as late:
        (as_read,) = [each.sentence for each in conditions(late) if each.code == "other_configuration"]
        enter(late, Role.WORKER, "h:9:z", **where)
        (of_process,) = [each.sentence for each in conditions(late) if each.code == "other_configuration"]
    assert [each.count(where["file"]) for each in (as_read, of_process)] == [1, 1]
    assert [each.count("of pid 7") for each in (as_read, of_process)] == [1, 2]


def test_who_was_silent_while_redis_was_away_is_not_missed_as_it_comes_back(led, monkeypatch):
    """The server has been up for less time than they have been silent."""
    led.client.hset(led.keys.processes, "supervisor g:9:z", "1 -")  # heard from long ago
    led.client.hset(led.keys.lease, "expires_us", 1)
    monkeypatch.setattr(finding, "HEARTBEAT_TTL_SECONDS", 1e9)
    assert found(led) == {}
    monkeypatch.setattr(finding, "HEARTBEAT_TTL_SECONDS", 0.0)
    assert {"host_silent", "no_scheduler"} == {code for code, _ in found(led)}
    monkeypatch.setattr(finding, "TAKEOVER_SECONDS", 0.2)
    led.client.execute_command("CLIENT", "PAUSE", 500, "WRITE")
    assert {"host_silent", "no_scheduler"}.isdisjoint(code for code, _ in found(led))  # it stood still until now


def test_a_run_that_stood_still_to_its_end_is_stuck_until_something_is_completed(led):
    """It is one alarm, and not one in each window."""
    trouble = CallTrouble(endpoint=steps.ENDPOINT, address="127.0.0.1:8090", what="cut by the deadline", calls=7)
    close_one(led, troubles=(trouble,))
    assert found(led) == {}  # nobody was paged for it
    led.notes.note({"run_stuck run": 1.0}, ())
    assert "cut by the deadline" in found(led)["run_stuck", "run"].sentence

    steps.start_run(led, token(led))
    assert ("run_stuck", "run") in found(led)
    led.client.hset(led.keys.tally, f"delivered:{steps.ENDPOINT}", 1)
    assert found(led) == {}


def test_a_look_needs_four_round_trips(led, monkeypatch):
    """By a line to Redis that is slow each is a second."""
    close_one(led)
    sent, send = [], redis.Connection.send_packed_command

    def count(connection, *args, **named):
        sent.append(args)
        send(connection, *args, **named)

    for kind in (redis.Connection, redis.UnixDomainSocketConnection):
        monkeypatch.setattr(kind, "send_packed_command", count)
    assert found(led) == {}
    assert len(sent) == 4  # the form of the keys, all that has a fixed name, records, books


# -- what is said


@pytest.fixture
def said(caplog):
    """The lines about conditions so far: level, action, code."""
    caplog.set_level(logging.INFO, "rlm.admin.watch")
    return lambda: [(each.levelname, each.action, each.condition) for each in caplog.records]


def watch(store, mine=True):
    made = Watch(store, lambda: mine)
    return made.look


BEGUN, ENDED = ("WARNING", "begin_condition", "endpoint_failing"), ("INFO", "end_condition", "endpoint_failing")


def test_a_condition_is_one_line_when_it_begins_and_one_when_it_ends(led, said):
    """After two looks that agree, so that what passes is none."""
    look = watch(led)
    fail(led, steps.ENDPOINT)
    look()
    assert said() == []
    look()
    look()
    assert said() == [BEGUN]
    assert found(led)["endpoint_failing", steps.ENDPOINT].since

    led.client.delete(led.keys.endpoint(led.settings.endpoints[steps.ENDPOINT].window_id))
    look()
    assert said() == [BEGUN]
    look()
    look()
    assert said() == [BEGUN, ENDED]


def test_a_successor_repeats_nothing_and_says_when_it_is_over(led, said):
    fail(led, steps.ENDPOINT)
    first = watch(led)
    first()
    first()
    successor = watch(led)
    successor()
    successor()
    assert said() == [BEGUN]
    led.client.delete(led.keys.endpoint(led.settings.endpoints[steps.ENDPOINT].window_id))
    successor()
    successor()
    assert said() == [BEGUN, ENDED]


def test_an_error_is_an_error_and_others_say_nothing(led, said, monkeypatch):
    led.processes.forget(Role.SUPERVISOR, "h:2:b")
    other, look = watch(led, mine=False), watch(led)
    for _ in range(3):
        other()
        look()
    assert said() == []  # it may just be starting
    monkeypatch.setattr(watching, "STARTING_SECONDS", 0.0)
    for _ in range(3):
        look()
    assert said() == [("ERROR", "begin_condition", "no_supervisor")]


@pytest.mark.parametrize("codes", [["redis_away"], ["redis_crowded", "redis_away"]])
def test_an_outage_of_redis_is_said_by_who_spoke_before(led, said, monkeypatch, codes):
    """And ends nothing else, because nothing else is known meanwhile."""
    fail(led, steps.ENDPOINT)
    look = watch(led)
    look()
    look()

    def fails(*_args):
        raise StoreUnreachableError("away" if len(codes) == 1 else "max number of clients reached", "start it")

    with monkeypatch.context() as patch:
        patch.setattr(led.processes, "register_and", fails)
        for _ in range(3):
            look()
    look()
    look()
    ended = [("INFO", "end_condition", code) for code in codes]
    assert said() == [BEGUN, *(("ERROR", "begin_condition", code) for code in codes), *ended]


def test_nobody_is_missed_who_could_not_announce_himself_just_now(led, said, monkeypatch):
    """While Redis takes no entries all fall silent; who is silent still some time later is missed."""
    monkeypatch.setattr(watching, "STARTING_SECONDS", 0.5)
    monkeypatch.setattr(finding, "HEARTBEAT_TTL_SECONDS", 0.0)  # the server may have just started
    look = watch(led)
    look()

    def fails(*_args):
        raise StoreUnreachableError("Redis cannot be reached", "start it")

    time.sleep(0.6)
    with monkeypatch.context() as patch:
        patch.setattr(led.processes, "register_and", fails)
        look()
    led.client.hset(led.keys.processes, "supervisor g:9:z", "1 -")  # heard from long ago
    look()
    look()
    assert said() == []
    time.sleep(0.6)
    look()
    look()

    assert said() == [("WARNING", "begin_condition", "host_silent")]
