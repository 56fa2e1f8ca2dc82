"""`rlm doctor`: its findings, the remedies, its exit codes."""

from __future__ import annotations

import json
import re
import time
from shutil import rmtree
from types import SimpleNamespace

import msgspec
import pytest

from rlm import __version__
from rlm.admin import doctor as checks
from rlm.admin.doctor import processes, server
from rlm.admin.explain.words import moment
from rlm.core.clock import Clock, system_clock
from rlm.core.errors import StoreUnreachableError
from rlm.core.expected import Measured
from rlm.core.files import replace_file
from rlm.core.item import Reason
from rlm.core.trail import Heard
from rlm.ledger import fitness
from rlm.ledger.epoch_file import UNSURE, Epoch
from rlm.ledger.processes import Process, Role, WorkerState
from rlm.ledger.reading.books import books
from tests.store import steps
from tests.store.windows import pass_time, set_health
from tests.unit.test_archive import disk_that_takes
from tests.values import as_json, replace
from tests.wait import wait_until


@pytest.fixture(autouse=True)
def reachable(monkeypatch):
    """Make every endpoint reachable, because nobody listens at the configured ones; see tests/store/test_reach.py."""
    monkeypatch.setitem(checks.HERE, "reach", lambda _settings: ())


@pytest.fixture
def inst(inst):
    inst.store.leases.release(steps.CONDUCTOR)
    return inst


def findings(document):
    return {found["name"]: found for found in document["findings"]}


def announce(inst, role, process_id="host:1:abc", **facts):
    """Register a living process, with the same configuration unless given another."""
    process = Process(process_id, 1, "host", system_clock.now(), revision=inst.settings.revision, version=__version__)
    inst.store.processes.announce(role, replace(process, **facts))


def test_an_installation_with_nothing_started_is_no_error(inst):
    """Exit 0; two warnings say what to start, everything else is fine."""
    document = inst.json("doctor")

    assert document["ok"] is True
    bad = [found for found in document["findings"] if not found["ok"]]
    assert [(found["name"], found["severity"]) for found in bad] == [
        ("scheduler", "warning"),
        ("supervisor", "warning"),
    ]
    assert all("rlm up" in found["remedy"] for found in bad)
    assert all(
        set(found) == {"name", "ok", "verdict", "severity", "message", "remedy"} for found in document["findings"]
    )
    assert {found["verdict"] for found in document["findings"]} == {"ok", "warn"}
    assert all(found["severity"] is None for found in document["findings"] if found["ok"])
    names = set(findings(document))
    assert {"configuration", "redis", "redis.eviction", "clock", "workers", "run", "staging", "books"} <= names


def test_with_everything_running_all_is_well(inst):
    """A person reads that in one line, and with -v a line for each thing."""
    announce(inst, Role.SCHEDULER)
    announce(inst, Role.SUPERVISOR)
    inst.store.leases.acquire("host:1:abc", 60)
    inst.store.processes.want(inst.token + 1, 1)
    announce(inst, Role.WORKER, state=WorkerState.READY, threads=5)

    in_short, shown = inst.rlm("doctor").stdout, inst.rlm("doctor", "-v").stdout

    assert len(in_short.splitlines()) == 3
    assert f"{len(shown.splitlines()) - 2} checks found nothing wrong" in in_short
    assert in_short.endswith("\nAll is well.\n")
    assert shown.endswith("\nAll is well.\n")
    assert str(inst.config) in shown
    assert "host:1:abc leads" in shown
    assert "1 ready of 1 wanted" in shown


def test_what_is_wrong_comes_first_the_worst_before_all(inst):
    """What is well is a line, unless asked for; a program gets all of it, in the order of the checks."""
    inst.store.client.zadd(inst.store.keys.inflight(steps.TYPE), {steps.event_id(1): 1})

    verdicts = [line.split()[0] for line in inst.rlm("doctor", code=1).stdout.splitlines() if line[:1].isalpha()]
    each = [line.split()[0] for line in inst.rlm("doctor", "-v", code=1).stdout.splitlines() if line[:1].isalpha()]

    assert verdicts[0] == "fail"
    assert verdicts == sorted(verdicts, key=["fail", "warn", "ok"].index)
    assert verdicts.count("ok") == 1
    assert each == sorted(each, key=["fail", "warn", "ok"].index)
    assert len(each) == len(inst.json("doctor", code=1)["findings"])


def test_a_run_conducted_by_hand_needs_no_scheduler(inst):
    """`rlm start --wait` holds the lease."""
    inst.store.leases.acquire("by hand", 60)

    assert findings(inst.json("doctor"))["scheduler"]["message"] == "none is running, by hand conducts a run by hand"


@pytest.mark.parametrize("role", [Role.SCHEDULER, Role.SUPERVISOR])
def test_a_process_of_another_configuration_is_named(inst, role):
    """It reads its file when it starts."""
    announce(inst, role, process_id="old one", revision="other")

    found = findings(inst.json("doctor"))[role]

    assert (found["ok"], found["severity"], found["remedy"]) == (False, "warning", "restart it")
    assert "old one" in found["message"]


def test_a_scheduler_that_does_not_tick_is_warned_about(inst):
    """Longer than twice its period, and no run is open."""
    announce(inst, Role.SCHEDULER, started_at=system_clock.now() - 1000)
    inst.store.schedule.note_tick(system_clock.now() - 700)

    found = findings(inst.json("doctor"))["scheduler"]

    assert found["severity"] == "warning"
    assert found["message"] == "it has not ticked for 11:40 min, although a tick is due every 180 s"

    announce(inst, Role.SCHEDULER, process_id="host:2:standby")  # that has just come up: the other could have ticked
    assert findings(inst.json("doctor"))["scheduler"]["message"].startswith("it has not ticked for 11:4")
    inst.start_run(1000)
    assert findings(inst.json("doctor"))["scheduler"]["ok"]


def test_a_scheduler_that_has_just_come_up_is_not_late(inst):
    """However long ago the last one ticked."""
    announce(inst, Role.SCHEDULER)
    inst.store.schedule.note_tick(system_clock.now() - 100_000)

    assert findings(inst.json("doctor"))["scheduler"]["ok"]


def test_missing_workers_are_a_warning(inst):
    """Wanted, and not ready; those that have just been started are waited for without a warning."""
    inst.store.processes.want(inst.token, 3)
    announce(inst, Role.WORKER, state=WorkerState.READY)
    announce(inst, Role.WORKER, process_id="2", state=WorkerState.STARTING)

    found = findings(inst.json("doctor"))["workers"]

    assert (found["severity"], found["message"]) == ("warning", "1 ready of 3 wanted, 1 coming up")

    inst.store.processes.want(inst.token, 2)
    assert findings(inst.json("doctor"))["workers"]["ok"]


def test_without_a_run_and_a_supervisor_no_worker_is_missed(inst):
    """`rlm status` says so, too. Workers stay wanted while leftovers wait, for the run that takes those."""
    inst.store.processes.want(inst.token, 1)

    found = processes.check_workers(inst.store)
    assert (found.ok, found.message) == (True, "none; they start when a run needs them")

    announce(inst, Role.SUPERVISOR)
    assert not processes.check_workers(inst.store).ok


def test_clocks_that_differ_are_a_warning(inst, monkeypatch):
    """More than a second, in either direction; a slow answer is no difference."""
    for offset, words in ((5.0, "5.0 s behind"), (-5.0, "5.0 s ahead of")):
        monkeypatch.setattr(Clock, "now", lambda _self, offset=offset: time.time() + offset)
        found = findings(inst.json("doctor"))["clock"]
        assert found["severity"] == "warning"
        assert words in found["message"]
        assert "NTP" in found["remedy"]

    moments = iter((time.time() - 30, time.time() + 30))
    monkeypatch.setattr(server, "system_clock", SimpleNamespace(now=lambda: next(moments)))
    assert server.check_clock(inst.store).ok


def test_an_open_run_is_told_and_an_overdue_one_is_an_error(inst):
    """Exit 1: somebody has to close it."""
    inst.store.leases.acquire(steps.CONDUCTOR, 60)
    inst.token += 1
    inst.push(*steps.items(2, steps.TYPE))
    run = inst.start_run(window_seconds=1000)
    assert findings(inst.json("doctor"))["run"]["message"] == f"{run.id} is running"
    inst.store.client.hset(inst.store.keys.run(run.id), "deadline_us", inst.store.now_us() - 60_000_000)

    document = inst.json("doctor", code=1)

    assert document["ok"] is False
    assert findings(document)["run"]["severity"] == "error"
    assert "1:0" in findings(document)["run"]["message"]
    assert "rlm cancel" in findings(document)["run"]["remedy"]


def test_books_that_do_not_balance_are_an_error(inst):
    """Exit 1, and what is wrong in numbers, on a line of its own."""
    inst.store.client.zadd(inst.store.keys.inflight(steps.TYPE), {steps.event_id(1): 1})

    document = inst.json("doctor", code=1)

    assert findings(document)["books"]["severity"] == "error"
    assert f"{steps.TYPE}: no run is open, but" in findings(document)["books"]["message"]
    shown = inst.rlm("doctor", code=1).stdout
    assert "> this is a fault of RLM" in shown
    assert "1 error, 2 warnings" in shown


def test_a_leftover_that_is_gone_from_the_ledger_is_an_error(inst):
    """The record of the last run says how many are to be there; of a run before it nothing is to be."""
    inst.push(*steps.items(2, steps.TYPE))
    inst.close_run(inst.start_run())
    inst.close_run(inst.start_run())
    assert findings(inst.json("doctor"))["books"]["ok"]

    inst.store.client.zpopmin(inst.store.keys.pending(steps.TYPE))

    found = findings(inst.json("doctor", code=1))["books"]
    assert found["message"] == f"{steps.TYPE}: 2 left over by what came and was settled, but 1 are pending"


def measure(inst, **milliseconds):
    """Record a run whose calls of the type took that long: `measure(inst, rebalance_api=[2800.0] * 20)`."""
    measured = {(steps.TYPE, endpoint): Measured(tuple(found)) for endpoint, found in milliseconds.items()}
    inst.store.client.hset(inst.store.keys.measured, mapping=inst.store.measures.encode(measured))


def times(inst):
    return findings(inst.json("doctor"))[f"times.{steps.TYPE}"]


def test_types_whose_calls_take_what_is_configured_are_well(inst):
    """A finding each; too few calls tell nothing, and a twentieth of a second is no matter."""
    found = findings(inst.json("doctor"))
    assert [found[f"times.{one.name}"]["ok"] for one in inst.settings.event_types] == [True] * 5
    assert times(inst)["message"] == "0 calls were measured, too few to compare with the 2.0 s configured"

    for milliseconds in ([9000.0] * 19, [2500.0] * 20, [1500.0] * 40):
        measure(inst, rebalance_api=milliseconds)
        assert times(inst)["ok"]
    assert times(inst)["message"] == (
        f"completed calls of {steps.TYPE} took 1.5 s (median of 40), the configuration says 2.0 s"
    )


@pytest.mark.parametrize(("takes", "value"), [(2840, 2.8), (2510, 2.5), (990, 0.99), (80, 0.08), (12_400, 12.0)])
def test_calls_that_take_other_than_configured_are_a_warning_with_the_value_to_write(inst, takes, value):
    """The median over all endpoints, each weighing as many calls as it had."""
    measure(inst, rebalance_api=[1.0, takes, takes] * 20, overflow_rebalance_api_1=[takes, takes, 50_000.0] * 6)

    found = times(inst)

    assert (found["ok"], found["severity"]) == (False, "warning")
    assert found["message"] == (
        f"completed calls of {steps.TYPE} took {value} s (median of 78), the configuration says 2.0 s"
    )
    assert found["remedy"] == f"set types.{steps.TYPE}.processing_seconds = {value}"


def test_an_endpoint_that_is_far_off_alone_is_named(inst):
    """The type's time is right; the remedy is there, not in the file."""
    measure(inst, rebalance_api=[2000.0] * 60, overflow_rebalance_api_1=[8100.0] * 20)

    found = times(inst)

    assert (found["ok"], found["severity"]) == (False, "warning")
    assert found["message"] == (
        f"completed calls of {steps.TYPE} took 2.0 s (median of 80), the configuration says 2.0 s; "
        "overflow_rebalance_api_1 takes 8.1 s (median of 20)"
    )
    assert "processing_seconds" not in found["remedy"]


def endpoint_findings(inst):
    return [found for found in inst.json("doctor")["findings"] if found["name"] == "endpoints"]


def test_endpoints_that_get_no_call_are_warned_about(inst):
    """Paused, held and resting, each with its remedy; what has another endpoint is not without one."""
    assert [found["ok"] for found in endpoint_findings(inst)] == [True]
    first, second, third, fourth = inst.settings.event_types[0].endpoints
    inst.store.control.pause(first, "me@here")
    inst.store.control.pause(second, "me@here", 30)
    set_health(inst.store, third, held_until_us=inst.store.windows.look(())[0] + 30_000_000)
    inst.store.breaker.rest(fourth, 30)

    paused, ending, held, resting, idle = endpoint_findings(inst)

    assert {found["severity"] for found in (paused, ending, held, resting, idle)} == {"warning"}
    assert paused["message"].startswith(f"{first.name} is paused until resumed, by me@here, since 20")
    assert paused["remedy"].startswith(f"`rlm endpoint resume {first.name}`")
    assert ending["message"].startswith(f"{second.name} is paused for another ")
    assert held["message"].endswith(" s: its window cannot be trusted")
    assert resting["message"].startswith(f"{fourth.name} rests for another ")
    assert resting["message"].endswith("it is throttled")
    assert idle["message"].startswith(f"no endpoint of {steps.TYPE} can be called now")

    inst.store.control.resume(fourth, "me@here")
    assert not any("no endpoint of" in found["message"] for found in endpoint_findings(inst))
    assert "All is well." not in inst.rlm("doctor").stdout


@pytest.mark.parametrize(
    ("kind", "remedy"), [("HTTP 401", "a token that expired, or a URL that moved"), ("time-out", "ask its owner")]
)
@pytest.mark.parametrize("closed", [False, True])
def test_why_an_endpoint_fails_is_named_and_decides_the_remedy(inst, kind, remedy, closed):
    """By the calls of the open run, else of the last: to call it again is of no use where a token ran out."""
    failing = inst.settings.endpoints[steps.ENDPOINT]
    inst.token = inst.store.leases.acquire(steps.CONDUCTOR, 600)
    inst.push(*steps.items(1, steps.TYPE))
    run = inst.start_run()
    inst.store.ledger.fail(
        steps.claim_next(inst.store, inst.token, run), Reason.REJECTED, "no", steps.ENDPOINT, Heard("no", 0.1, kind)
    )
    for _ in range(5):
        inst.store.breaker.fail(failing, first_rest_seconds=30, failing=5, why=kind)
    if closed:
        inst.close_run(run)

    (resting,) = endpoint_findings(inst)

    assert f"it is failing: {kind} (1 x {kind}, {steps.ENDPOINT} at 127.0.0.1:8090)" in resting["message"]
    assert resting["remedy"].startswith(remedy)


def test_endpoints_that_get_no_call_for_the_same_reason_are_one_finding(inst):
    """Some are named and the number of the others is told; it says how long the last of them takes."""
    ends = inst.store.windows.look(())[0]
    endpoints = list(inst.store.endpoints().values())
    for number, one in enumerate(endpoints[:18]):
        set_health(inst.store, one, held_until_us=ends + (30 + number) * 1_000_000)
    for one in endpoints[18:]:
        inst.store.control.pause(one, "me@here")

    held, paused, idle = (found["message"] for found in endpoint_findings(inst))

    names = ", ".join(one.name for one in endpoints[:5])
    why = "because their windows .*"
    assert re.fullmatch(rf"18 are held, the last for another 4\d s, {why}: {names} and 13 more", held)
    assert paused == f"2 are paused until resumed, by me@here: {', '.join(one.name for one in endpoints[18:])}"
    assert idle.startswith("no endpoint of REBALANCE_NEEDED, OPEN_POSITION_DETECTED, ")

    for one in endpoints[:2]:
        set_health(inst.store, one, held_until_us=0)
        inst.store.breaker.rest(one, 30)
    assert any(found["message"].startswith("2 rest, the last for ") for found in endpoint_findings(inst))


def test_windows_that_could_not_be_trusted_are_told_with_the_end_of_it(inst):
    """A minute, the guard and the time-out after it was found; afterwards it was so, and is told for a day."""
    timeout = max(one.timeout_seconds for one in inst.settings.endpoints.values())
    inst.store.leases.acquire(steps.CONDUCTOR, 60)
    inst.store.epochs.renew(inst.token + 1, "Redis lost its mind", underway_seconds=timeout)
    ends = inst.store.epochs.last_renewal().at + 60 + inst.settings.run.guard_seconds + timeout

    def memory():
        return findings(inst.json("doctor"))["memory"]["message"]

    assert "Redis lost its mind. Every endpoint is held until " in memory()
    assert f" held until {moment(ends, ends).partition('.')[0]}" in memory()
    pass_time(inst.store, inst.settings.endpoints[steps.ENDPOINT], 1000)
    assert "Every endpoint was held until " in memory()


def test_an_epoch_that_could_not_be_written_is_told(inst):
    """The file is named, what follows, and what to do."""
    inst.store.leases.acquire(steps.CONDUCTOR, 60)
    inst.store.epochs.renew(inst.token + 1, "Redis lost its mind")
    file = inst.store.epochs._file._path

    def told():
        return findings(inst.json("doctor")).get("memory.file", {"message": "", "remedy": ""})

    assert told()["message"] == ""
    replace_file(file, msgspec.json.encode(Epoch(1, "of a test", UNSURE)))
    assert told()["message"].startswith(f"{file} could not be written when calls were made: ")
    assert "every endpoint is held" in told()["message"]
    assert told()["remedy"].startswith("make room on its disk")


def test_an_epoch_of_another_user_is_not_looked_at(inst, tmp_path, caplog):
    """As through a link: the finding `files` is of that, and nothing is said of the epoch."""
    inst.store.leases.acquire(steps.CONDUCTOR, 60)
    inst.store.epochs.renew(inst.token + 1, "Redis lost its mind")
    directory = inst.store.epochs._file._path.parent
    directory.rename(tmp_path / "elsewhere")
    directory.symlink_to(tmp_path / "elsewhere")

    assert inst.store.epochs.doubt() == ""
    assert caplog.text == ""


def test_an_epoch_that_cannot_be_written_now_is_told(inst):
    """Nothing but the attempt finds a full disk: with the file, without it, and without its directory."""
    inst.store.leases.acquire(steps.CONDUCTOR, 60)
    inst.store.epochs.renew(inst.token + 1, "Redis lost its mind")
    file = inst.store.epochs._file._path

    for there in (lambda: None, file.unlink, lambda: rmtree(file.parent)):
        there()
        before = sorted(file.parent.parent.rglob("*"))
        assert inst.store.epochs.doubt() == ""
        with disk_that_takes(0):
            assert inst.store.epochs.doubt().startswith(f"{file} cannot be written (File too large): ")
        assert sorted(file.parent.parent.rglob("*")) == before


@pytest.mark.parametrize(("admitted", "ok"), [(512_000_000, False), (64_000_000, True), (2_000_000, False)])
def test_what_redis_admits_is_compared_with_what_rlm_needs(inst, admitted, ok):
    """More by far lets a giant hold everybody up, less would refuse a long dead letter; the remedy says what to set."""
    before = inst.store.client.config_get("proto-max-bulk-len")["proto-max-bulk-len"]
    inst.store.client.config_set("proto-max-bulk-len", admitted)
    try:
        found = findings(inst.json("doctor"))["redis.bulk"]
    finally:
        inst.store.client.config_set("proto-max-bulk-len", before)

    assert found["ok"] == ok
    assert ok or "proto-max-bulk-len" in found["remedy"]


def test_items_left_in_staging_are_a_warning(inst):
    """A drain was cut short; the next run takes them."""
    inst.store.client.lpush(inst.store.keys.processing, b"1", b"2")

    found = findings(inst.json("doctor"))["staging"]

    assert found["severity"] == "warning"
    assert found["message"].startswith("2 items are in staging")


def test_an_unfit_redis_is_exit_four(inst, monkeypatch):
    """The remedy is told; with --allow-volatile it is a warning. The rest is looked at either way."""
    real = fitness.judge

    def volatile(info, settings, **options):
        return real({**info, "aof_enabled": 0}, settings, **options)

    monkeypatch.setattr(fitness, "judge", volatile)

    refused = inst.json("doctor", code=4)
    allowed = inst.json("doctor", "--allow-volatile")

    assert refused["ok"] is False
    assert findings(refused)["redis.persistence"]["severity"] == "error"
    assert "appendonly" in findings(refused)["redis.persistence"]["remedy"]
    assert findings(allowed)["redis.persistence"]["severity"] == "warning"
    assert "books" in findings(refused)
    assert "books" in findings(allowed)


def test_a_redis_that_cannot_be_reached_is_a_finding_and_exit_four(inst, tmp_path):
    """One document all the same, with the address and the remedy, and with what needs no Redis."""
    inst.config.write_text(f'[redis]\nurl = "unix://{tmp_path}/nobody.sock"\n')

    document = inst.json("doctor", code=4)

    assert [found["name"] for found in document["findings"]] == ["configuration", "files", "sentry", "redis"]
    assert "nobody.sock" in findings(document)["redis"]["message"]
    assert "so not checked: advisories, latency, clock, " in findings(document)["redis"]["message"]
    assert "redis.url" in findings(document)["redis"]["remedy"]
    assert "1 error" in inst.rlm("doctor", code=4).stdout


def test_a_redis_that_fails_in_between_keeps_what_was_found(inst, monkeypatch):
    """What had been looked at by then is printed, too; what comes after it is not even tried."""
    tried = []

    def fail(_store):
        yield from ()
        raise StoreUnreachableError("Redis went away")

    made = {"clock": checks.IN_REDIS["clock"], "memory": fail, "run": tried.append}
    monkeypatch.setattr(checks, "IN_REDIS", made)

    document = inst.json("doctor", code=4)

    assert document["findings"][-1]["message"] == "Redis went away; so not checked: memory, run"
    assert findings(document)["clock"]["ok"]
    assert tried == []


def test_a_check_that_fails_takes_no_other_down(inst, monkeypatch):
    """It is a finding by itself: exit 1, with what went wrong, and the books are looked at all the same."""

    def fail(_store):
        raise ValueError("what nobody expected")

    monkeypatch.setattr(checks, "IN_REDIS", {"memory": fail, "books": checks.IN_REDIS["books"]})

    document = inst.json("doctor", code=1)

    assert findings(document)["memory"]["verdict"] == "fail"
    assert findings(document)["memory"]["message"] == ("this could not be checked: ValueError: what nobody expected")
    assert findings(document)["books"]["ok"]


def test_nothing_configured_is_told_apart_from_a_file(tmp_path, monkeypatch, valkey_only_url):
    """The built-in endpoints are examples, and it says so."""
    from click.testing import CliRunner

    from rlm.cli.group import rlm

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("REDIS_URL", valkey_only_url)
    monkeypatch.setenv("RLM_REDIS__PREFIX", "nothing-configured")

    done = CliRunner().invoke(rlm, ["doctor", "--json"])

    assert done.exit_code == 0
    assert "built-in defaults" in findings(json.loads(done.stdout))["configuration"]["message"]


@pytest.mark.rest
def test_a_living_system_is_well_before_in_and_after_a_run(make_system):
    """Real processes: nothing to complain of, and the books balance at every look."""
    with make_system(env={"RLM_RUN__WINDOW_SECONDS": "60"}) as system:  # for a busy machine to be done, too
        system.start_both()
        faults = []

        def closed():
            faults.extend(books(system.store).faults)
            return as_json(system.store.runs.record(run_id))

        system.push_evenly(300)
        before = json.loads(system.rlm("doctor", "--json").stdout)
        run_id = system.ask_for_run()
        wait_until(lambda: len(system.answered()) > 20, timeout=30, message="the run is in its middle")

        during = json.loads(system.rlm("doctor", "--json").stdout)
        record = wait_until(closed, timeout=60, message="the run is closed")
        after = json.loads(system.rlm("doctor", "--json").stdout)

        for document in (before, during, after):
            bad = {found["name"]: found["message"] for found in document["findings"] if not found["ok"]}
            # A busy machine may be slower than configured, or than is well for the guard.
            slow = {name for name in bad if name.startswith(("times.", "latency"))}
            assert bad.keys() <= {"workers"} | slow, bad
        assert findings(during)["run"]["message"] == f"{run_id} is running"
        assert record["counts"]["completed"] == 300
        assert faults == []
