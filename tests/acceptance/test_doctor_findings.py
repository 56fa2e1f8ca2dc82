"""`rlm doctor`: who leads, what is stuck, who may read what, and its findings on broken systems."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from rlm import __version__
from rlm.admin import doctor as checks
from rlm.admin.doctor import ledger, processes, server
from rlm.cli import printing, up
from rlm.cli.group import rlm
from rlm.core.clock import system_clock
from rlm.ledger.processes import Offer, Process, Role, WorkerState
from tests.acceptance.cli import Installation
from tests.acceptance.system import make_item
from tests.store import steps
from tests.values import replace
from tests.wait import wait_until


@pytest.fixture(autouse=True)
def reachable(monkeypatch):
    """Make every endpoint reachable, because nobody listens at the configured ones; see tests/store/test_reach.py."""
    monkeypatch.setitem(checks.HERE, "reach", lambda _settings: ())


@pytest.fixture
def inst(inst):
    inst.config.chmod(0o600)
    return inst


def found(inst, name, code=0):
    """Return verdict and message of each finding with this name."""
    return [
        (one["verdict"], one["message"]) for one in inst.json("doctor", code=code)["findings"] if one["name"] == name
    ]


def announce(inst, role, process_id, **facts):
    process = Process(process_id, 1, "host", system_clock.now(), revision=inst.settings.revision, version=__version__)
    inst.store.processes.announce(role, replace(process, **facts))


def dead_process():
    """The id of a dead process of this host, in the form of a scheduler's."""
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    return f"{socket.gethostname()}:{ended.pid}:abc"


# -- Redis


def test_round_trips_that_take_long_for_the_guard_are_a_warning(inst, monkeypatch):
    """The threshold is told either way, and the remedy has a value to write."""
    ((verdict, message),) = found(inst, "latency")
    assert verdict == "ok"
    assert message.endswith("; up to 250 ms is fine with run.guard_seconds = 0.5")

    monkeypatch.setattr(server, "GUARD_SHARE", 1e-9)
    monkeypatch.setattr(server, "LEAST_SECONDS", 0.0)
    document = inst.json("doctor")

    (slow,) = [one for one in document["findings"] if one["name"] == "latency"]
    assert slow["verdict"] == "warn"
    assert "is a lot for run.guard_seconds = 0.5" in slow["message"]
    assert "set run.guard_seconds to " in slow["remedy"]


def test_a_single_round_trip_that_takes_long_is_a_warning(inst, monkeypatch):
    """A slot's answer may be that one; how long it took to connect is no matter."""
    trips = [0.001] * server.PINGS
    told = []
    for connecting, worst in ((9.0, 0.001), (0.001, 0.3)):
        taken = iter([connecting, *trips[1:], worst])
        monkeypatch.setattr(server, "_ping", lambda _, taken=taken: next(taken))
        told.append(server.check_latency(inst.store))

    assert [one.ok for one in told] == [True, False]
    assert told[1].message.startswith("a round trip takes 1 ms, the worst of 20 took 300 ms; more than 250 ms is a lot")
    assert told[1].remedy.endswith("set run.guard_seconds to 0.6 or more")


def test_the_bundled_server_has_no_known_hole(inst):
    """Whoever runs RLM's scripts could take such a server over."""
    ((verdict, message),) = found(inst, "advisories")

    assert (verdict, message.startswith("this RLM knows of no hole in the scripting of Valkey ")) == ("ok", True)


# -- who leads, and of which version


def test_the_leader_is_told_with_those_that_would_take_over(inst):
    """One that stands by, or none."""
    inst.store.leases.release(steps.CONDUCTOR)
    announce(inst, Role.SCHEDULER, "one")
    inst.store.leases.acquire("one", 60)
    assert found(inst, "leader") == [("ok", "one leads; nobody would take over if it died")]

    announce(inst, Role.SCHEDULER, "two")
    assert found(inst, "leader") == [("ok", "one leads, 1 would take over if it died")]


def test_a_run_that_no_scheduler_conducts_is_a_fault(inst):
    """Without a run it is a warning: nothing is due. Either way it says what does not happen."""
    inst.store.leases.release(steps.CONDUCTOR)
    ((verdict, message),) = found(inst, "scheduler")
    assert (verdict, message) == ("warn", "none is running, so no run starts by itself")

    run = steps.open_run(inst.store, inst.store.leases.acquire(steps.CONDUCTOR, 600))
    inst.store.leases.release(steps.CONDUCTOR)

    ((verdict, message),) = found(inst, "scheduler", code=1)
    assert verdict == "fail"
    assert message.endswith(f"; run {run.id} is open, and nobody conducts it")


def test_a_lease_that_a_dead_process_holds_is_a_warning(inst, monkeypatch):
    """It ends by itself; what is to be done depends on whether another stands by."""
    monkeypatch.setattr(processes, "PROLONG_SECONDS", 0.05)
    inst.store.leases.release(steps.CONDUCTOR)
    dead = dead_process()
    inst.store.leases.acquire(dead, 60)

    ((verdict, message),) = found(inst, "leader")
    assert verdict == "warn"
    assert message.startswith(f"{dead} holds the lease for another ")
    assert message.endswith((" s, and is dead", " min, and is dead"))

    announce(inst, Role.SCHEDULER, "another")
    assert "another takes it then" in inst.rlm("doctor").stdout


def test_a_holder_whose_process_is_not_seen_here_and_that_prolongs_its_lease_lives(inst, monkeypatch):
    """A container has process ids of its own, and may have this host's name."""
    unseen = dead_process()
    inst.store.leases.release(steps.CONDUCTOR)
    inst.store.leases.acquire(unseen, 60)
    prolonging = SimpleNamespace(now=system_clock.now, sleep=lambda _: inst.store.leases.acquire(unseen, 60))
    monkeypatch.setattr(processes, "system_clock", prolonging)

    assert found(inst, "leader") == [("ok", f"{unseen} leads; nobody would take over if it died")]


def test_a_scheduler_that_has_just_come_up_need_not_lead_yet(inst):
    """It takes the lease in a moment; one that is there for long should have."""
    inst.store.leases.release(steps.CONDUCTOR)
    announce(inst, Role.SCHEDULER, "new")
    assert found(inst, "leader") == [("ok", "nobody leads yet; new has just started")]

    announce(inst, Role.SCHEDULER, "new", started_at=system_clock.now() - 60)
    assert found(inst, "leader") == [("warn", "nobody leads, although new is registered")]


def test_schedulers_of_which_none_leads_are_a_warning(inst, monkeypatch):
    """The lease ran out and nobody took it, so those in the register do not live."""
    frozen = f"{socket.gethostname()}:{os.getpid()}:frozen"  # a process of this host that lives
    inst.store.leases.release(steps.CONDUCTOR)
    announce(inst, Role.SCHEDULER, frozen)
    inst.store.leases.acquire(frozen, 0.001)
    monkeypatch.setattr(processes, "TAKEOVER_SECONDS", 0.0)

    told = wait_until(
        lambda: [one for one in found(inst, "leader") if one[0] == "warn"], message="the lease has run out"
    )

    silent = f"nobody leads: {frozen} does not answer, and its lease ran out "
    ((verdict, message),) = told
    assert (verdict, message.startswith(silent)) == ("warn", True)
    announce(inst, Role.SCHEDULER, "another")
    ((verdict, message),) = found(inst, "leader")
    assert (verdict, message.startswith(silent)) == ("warn", True)
    assert message.endswith(" s ago; nor does another take it")
    inst.store.processes.forget(Role.SCHEDULER, "another")
    inst.store.leases.release(frozen)
    assert found(inst, "leader") == [("warn", f"nobody leads, although {frozen} is registered")]


# -- events that do not get on


def test_hosts_that_are_out_of_service_are_named(inst):
    """With what to do."""
    assert found(inst, "hosts") == [("ok", "none is known")]
    for name in ("a", "b"):
        offer = Offer(20, 0, 20)
        inst.store.processes.announce(Role.SUPERVISOR, Process(f"{name}:1:x", 1, name, 0.0, offer=offer))
    assert found(inst, "hosts") == [("ok", "2 hosts, all in service")]

    inst.store.client.delete(inst.store.keys.process(Role.SUPERVISOR, "b:1:x"))
    message = "b is silent: its supervisor is not heard from, and did not sign off"
    assert found(inst, "hosts") == [("warn", message)]


def test_a_supervisor_that_is_no_longer_heard_of_is_told_by_its_name(inst):
    """It may hang: then somebody has to end it, which a new one does not do."""
    announce(inst, Role.SUPERVISOR, "h:7:a")
    inst.store.client.delete(inst.store.keys.process(Role.SUPERVISOR, "h:7:a"))

    ((verdict, message),) = found(inst, "supervisor")

    assert verdict == "warn"
    assert message.startswith("none is heard from, so no worker is started; h:7:a did not sign off")


def test_a_second_rlm_up_on_a_host_is_told_of_what_runs_there(inst):
    """As it starts and by doctor: a process of another host, or one that died, is none of this host's."""
    assert up._others_here(inst.settings, inst.settings.redis.url) == ""
    here = socket.gethostname()
    announce(inst, Role.SUPERVISOR, f"{here}:{os.getpid()}:a", host=here, pid=os.getpid())
    announce(inst, Role.SUPERVISOR, dead_process(), host=here, pid=2)
    announce(inst, Role.SCHEDULER, "elsewhere:1:a", host="elsewhere")

    told = up._others_here(inst.settings, inst.settings.redis.url)

    assert told.startswith(f"Already running here: supervisor (pid {os.getpid()}); those started now come on top")
    ((verdict, message),) = found(inst, "supervisor")
    assert (verdict, message) == ("ok", f"2 running, on {here} (2 on {here}, although one is enough)")
    assert up._others_here(inst.settings, "unix:///nowhere.sock") == ""


def test_events_in_the_hands_of_dead_workers_are_orphans(inst):
    """Claimed by one that nobody hears of; with a lease that ran out; a call that was released and made by nobody."""
    inst.push(*steps.items(4, steps.TYPE))
    run = inst.start_run(window_seconds=1000)
    announce(inst, Role.WORKER, "alive", state=WorkerState.READY)
    keys, client = inst.store.keys, inst.store.client
    late = steps.claim_next(inst.store, inst.token, run, "alive")
    client.zadd(keys.inflight(steps.TYPE), {late.event_id: inst.store.windows.look(())[0] - 1_000_000})
    steps.release(inst.store, inst.token, run, void=-1_000_000)
    assert found(inst, "orphans") == [("ok", "every event under way is held by a live worker")]

    steps.claim_next(inst.store, inst.token, run, "dead")
    overdue = steps.claim_next(inst.store, inst.token, run, "alive")
    long_ago = inst.store.windows.look(())[0] - 10_000_000
    client.zadd(keys.inflight(steps.TYPE), {overdue.event_id: -long_ago})
    steps.release(inst.store, inst.token, run, void=-10_000_000)
    client.sadd(keys.processes(Role.WORKER), "nobody")

    assert found(inst, "orphans") == [
        ("warn", "events held by workers that are gone: 1 (dead)"),
        ("warn", "events whose lease expired more than 5 s ago and that nobody took back: 1"),
        ("warn", "calls that should have been made or taken back more than 5 s ago: 1"),
        ("warn", "nobody: no longer heard from, and nobody has cleaned up after them"),
    ]


@pytest.mark.parametrize("known", ["before", "after"])
def test_a_worker_that_comes_or_goes_meanwhile_leaves_no_orphans(inst, monkeypatch, known):
    """It came up when the others had been listed, and claimed; or it went, with its event settled, before the next."""
    inst.push(*steps.items(1, steps.TYPE))
    run = inst.start_run()
    steps.claim_next(inst.store, inst.token, run, "worker")
    looks = iter([{"worker"} if known == when else set() for when in ("before", "after")])
    monkeypatch.setattr(ledger, "_alive", lambda _store: next(looks))

    assert [one.ok for one in ledger.check_orphans(inst.store)] == [True]


def test_events_that_wait_for_ever_are_stuck(inst):
    """Longer than all the runs that they may fail in; and a back-off that ended long ago."""
    inst.push(*steps.items(3, steps.TYPE))
    inst.start_run(window_seconds=1000)
    assert [verdict for verdict, _ in found(inst, "stuck")] == ["ok"]
    keys, client = inst.store.keys, inst.store.client
    client.hset(keys.event(steps.event_id(1)), "taken_at", system_clock.now() - 1000)
    client.hset(keys.event(steps.event_id(2)), "taken_at", system_clock.now() - 950)
    client.zrem(keys.pending(steps.TYPE), steps.event_id(3))
    client.zadd(keys.backoff(steps.TYPE), {steps.event_id(3): inst.store.windows.look(())[0] - 1_000_000})
    assert len(found(inst, "stuck")) == 1, "a back-off that has just ended is about to be left"
    client.zadd(keys.backoff(steps.TYPE), {steps.event_id(3): 1})

    waiting, late = found(inst, "stuck")

    assert waiting == (
        "warn",
        (
            f"events of {steps.TYPE} that have waited in the ledger for more than 900 s: 2; "
            f"{steps.event_id(1)} for 16:40 min"
        ),
    )
    assert late == ("warn", "events that should have left their back-off more than 5 s ago: 1")


def test_events_of_types_that_are_not_configured_are_told_before_they_are_dead_letters(inst, monkeypatch):
    """In the ledger, where a type was taken out of the file, and on the audit list; bad items are not its business."""
    inst.push(steps.item("a", "GONE"), steps.item("b", "GONE", "NEW", steps.TYPE), b"no JSON")
    inst.store.client.sadd(inst.store.keys.types, "OLD")
    inst.store.client.zadd(inst.store.keys.pending("OLD"), {"x:OLD": 1})

    in_ledger, waiting = found(inst, "types")

    fate = "no such type is configured, so they become dead letters"
    assert in_ledger == ("warn", f"1 of OLD wait in the ledger: {fate} when the next run starts")
    assert waiting == ("warn", f"2 of GONE, 1 of NEW wait on the audit list: {fate} when they are taken")
    monkeypatch.setattr(ledger, "MOST_PAGES", 1)
    assert "wait on the audit list (of the oldest items): " in found(inst, "types")[1][1]


# -- files, Sentry


def test_files_that_others_can_read_are_warnings_with_the_command_to_type(tmp_path, valkey_only_url):
    """A configuration with a secret, `.env`, the data directory; one that others can change is an error."""
    secret = '[types.T]\nrate_limit = "1/second"\nendpoints = [{ name = "a", url = "http://h/a", headers = '
    sections = secret + '{ Authorization = "Bearer secret-of-mine" } }]\n'
    with Installation(tmp_path, valkey_only_url, sections) as inst:
        inst.config.chmod(0o600)
        assert [verdict for verdict, _ in found(inst, "files")] == ["ok"]

        inst.config.chmod(0o644)
        (tmp_path / ".env").write_text("SENTRY_DSN=x")
        (tmp_path / ".env").chmod(0o604)
        inst.settings.data_dir.mkdir(exist_ok=True)
        inst.settings.data_dir.chmod(0o705)
        shown = inst.rlm("doctor").stdout
        inst.config.chmod(0o646)
        refused = inst.rlm("doctor", code=2).stdout

    assert "secret-of-mine" not in shown + refused
    assert f"> chmod o-w {inst.config}" in refused
    for command, path in (
        ("chmod 600", inst.config),
        ("chmod 600", tmp_path / ".env"),
        ("chmod 700", inst.settings.data_dir),
    ):
        assert f"> {command} {path}" in shown


def test_a_sentry_that_cannot_be_reached_is_a_warning_without_its_key(inst, monkeypatch):
    """A connection is made and nothing sent; without a DSN it is off."""
    assert found(inst, "sentry") == [("ok", "off: SENTRY_DSN is not set")]
    for name in ("http_proxy", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setenv("SENTRY_DSN", f"http://very-secret-key@127.0.0.1:{port}/1")
        assert found(inst, "sentry") == [("ok", f"the host of SENTRY_DSN 127.0.0.1:{port} can be reached")]

    done = inst.rlm("doctor")

    assert f"127.0.0.1:{port} cannot be reached: connection refused" in done.stdout
    assert "very-secret-key" not in done.output

    monkeypatch.setenv("http_proxy", "http://user:very/secret@proxy:3128")
    ((verdict, message),) = found(inst, "sentry")
    assert (verdict, "has an invalid port" in message, "very" in message) == ("warn", True, False)


# -- while things are broken


def test_a_configuration_that_cannot_be_used_is_findings_and_exit_two(inst):
    """Each fault is one; Redis is looked at where that section is sound; stderr says it as every command does."""
    inst.config.write_text(f"{inst.config.read_text()}\n[run]\nwindow_seconds = -1\ntargett = 0.5\n")

    done = inst.rlm("doctor", "--json", code=2)

    assert done.stdout.count('"name": "configuration"') == 2
    assert '"name": "redis.persistence"' in done.stdout
    assert '"name": "books"' not in done.stdout
    assert "run.window_seconds = -1" in done.stderr
    inst.config.write_text('[redis]\nurl = "nonsense"\n')
    assert '"name": "redis' not in inst.rlm("doctor", "--json", code=2).stdout
    inst.config.write_text("[redis")
    assert "fail  configuration" in inst.rlm("doctor", code=2).stdout


def test_strict_makes_a_warning_exit_one(inst):
    """No scheduler runs here, which is one."""
    inst.rlm("doctor")
    inst.rlm("doctor", "--strict", code=1)


def test_on_a_narrow_terminal_what_was_found_is_wrapped_in_its_column(monkeypatch, capsys):
    """A name that is too long has a line of its own."""
    monkeypatch.setattr(printing, "is_terminal", lambda **_stream: True)
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((70, 40)))

    printing.show_verdict("warn", "clock", "word " * 12, "do " * 20, names=30)
    printing.show_verdict("ok", "times.OPEN_POSITION_DETECTED", "fine", "", names=30)

    lines = capsys.readouterr().out.splitlines()
    assert all(len(line) <= 70 for line in lines)
    assert lines[0] == f"warn  {'clock':<18}  {'word ' * 8}word"
    assert lines[1] == f"{'':26}word word word"
    assert lines[2].startswith(f"{'':26}> do do")
    assert lines[-2:] == ["ok    times.OPEN_POSITION_DETECTED", f"{'':26}fine"]


# -- a real system


@pytest.mark.rest
@pytest.mark.parametrize(
    "complaint", ["is dead, and its lease ran out", pytest.param("warn  orphans", marks=pytest.mark.long)]
)
def test_a_system_that_was_killed_is_told_as_it_is(make_system, complaint):
    """Scheduler, supervisor and worker die in mid-run: nobody leads, and in the end what they had in hand is told."""
    with make_system(env={"RLM_WORKERS__MAX": "1"}) as system:

        def doctor():
            words = ["doctor", "--config", str(system.config)]
            return (
                CliRunner().invoke(rlm, words, env={"RLM_WORKERS__MAX": "1", "RLM_RUN__EVERY_SECONDS": "86400"}).stdout
            )

        system.start_both()
        system.push([make_item("u", "NOBODYS")])
        unknown = doctor()
        system.push_evenly(100)
        system.ask_for_run()
        wait_until(
            lambda: system.inflight() and len(system.answered()) > 5, timeout=30, message="the run is in its middle"
        )
        workers = system.workers()
        system.stop("scheduler", signal.SIGKILL)
        system.stop("supervisor", signal.SIGKILL)
        for pid in workers:
            os.kill(pid, signal.SIGKILL)

        at_once = doctor()
        wait_until(lambda: complaint in doctor(), timeout=30, message="the doctor tells what came of it")

    assert "1 of NOBODYS wait on the audit list" in unknown
    assert "s, and is dead" in at_once
