"""Each place from which scheduler, supervisor or worker calls Redis fails once: nothing lost, nothing counted twice.

The places are not listed here: a faultless round of each scenario finds them. Then each is failed separately, in the
first scenario that reached it. Several systems, each with its own server, share the cases, because a case mostly waits.
"""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue

import pytest

from rlm.core.errors import StoreError
from rlm.core.item import Reason, encode_letter
from rlm.ledger.processes import Role
from rlm.ledger.scripts import SCRIPTS
from tests.acceptance.system import make_item
from tests.faults.behind import STEADY, Behind, behind_proxies
from tests.faults.proxy import Fault
from tests.faults.test_processes_die import calls_held
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: Scripts that only commands run; the last test here fails those.
OF_COMMANDS = {
    "remove_letter",
    "set_pause",
}
#: A site that a scenario reaches only now and then is waited for so many rounds of it.
ROUNDS = 4
#: Systems that share the cases of a test.
LANES = 3
SPEED = 20

Site = tuple[str, str]
#: Every process says every few seconds that it lives.
ANNOUNCED: set[Site] = {
    ("scheduler", "hset processes"),
    ("supervisor", "hset processes"),
}


class Sweep:
    """Plays scenarios on one system and checks the promises after each round."""

    def __init__(self, system: Behind) -> None:
        self.system = system
        self.events: list[str] = []
        self.records: dict[str, dict] = {}
        self.rounds = 0

    def play(self, scenario: Scenario) -> None:
        """Play one round, and check every promise."""
        self.rounds += 1
        scenario.play(self)
        system = self.system
        system.assert_promises(self.events, self.records.values())
        system.assert_slots()
        done = sum(record["counts"]["completed"] for record in self.records.values())
        assert done <= len(system.answered()), "an event was counted twice"
        calls = sum(one["calls"] for record in self.records.values() for one in record["by_endpoint"].values())
        troubles = [one for record in self.records.values() for one in record.get("troubles", ())]
        # A call whose lease ended counts, though it may not have left.
        unsure = sum(one["calls"] for one in troubles if one["what"] in {"worker lost", "lease ended"})
        assert calls <= len(system.api.arrivals) + unsure, "a call was counted twice"

    def run(self, number: int = 5) -> dict:
        """Complete a few events in a run, and note both."""
        events, record = self.system.run_through(number, prefix=f"r{self.rounds}x{len(self.events)}e")
        self.events += events
        self.records[record["run_id"]] = record
        return record

    def sites(self, scenario: Scenario) -> set[Site]:
        """Play a scenario without a fault; return the places reached: the proxy, and the site."""
        before = {side: dict(proxy.seen) for side, proxy in self.system.proxies.items()}
        self.play(scenario)
        return {
            (side, site)
            for side, proxy in self.system.proxies.items()
            for site, number in dict(proxy.seen).items()
            if number > before[side].get(site, 0)
        }

    def fail(self, scenario: Scenario, site: Site, fault: Fault) -> bool:
        """Play a scenario until the site was reached and failed; return False if it was not."""
        armed = self.system.proxies[site[0]].arm(site[1], fault)
        for _ in range(ROUNDS):
            self.play(scenario)
            if armed.fired.is_set():
                break
        self.system.proxies[site[0]].disarm()
        return armed.fired.is_set()


@dataclass(frozen=True)
class Scenario:
    """What a system goes through in a second or two; `start` prepares systems for it."""

    name: str
    play: Callable[[Sweep], None]
    start: Callable[[Behind], None] = Behind.start_both
    env: tuple[tuple[str, str], ...] = ()
    document: str = ""


def plain(sweep: Sweep) -> None:
    """Do five events in a run."""
    sweep.run()


def longer(sweep: Sweep) -> None:
    """Make a run long enough for all its periodic work."""
    sweep.run(100)


def idle(sweep: Sweep) -> None:
    """Let all processes announce themselves, and work afterwards."""
    before = {one: sweep.system.proxies[one[0]].seen.get(one[1], 0) for one in ANNOUNCED}
    wait_until(
        lambda: all(sweep.system.proxies[side].seen.get(site, 0) > before[side, site] for side, site in ANNOUNCED),
        message="everybody has announced itself",
    )
    sweep.run()


def reconnected(sweep: Sweep) -> None:
    """Cut all connections to Redis, and let them be made again."""
    for proxy in sweep.system.proxies.values():
        proxy.cut()
    sweep.run()


def forgotten(sweep: Sweep) -> None:
    """Let Redis forget all scripts, and reload them."""
    sweep.system.store.client.script_flush()
    sweep.run()


def troubled(sweep: Sweep) -> None:
    """Let the API fail each type in another way, and recover."""
    api = sweep.system.api
    failing, throttled, rejected, cut, _ = (one.endpoints for one in sweep.system.settings.event_types)
    for endpoint in failing:
        api.set_fault(endpoint.name, status=500)
    api.set_fault(throttled[0].name, throttle=1)
    api.set_fault(rejected[0].name, status=400)
    api.set_fault(cut[0].name, reset=True)
    sweep.run()
    api.set_fault("*")
    sweep.run()


def bereaved(sweep: Sweep) -> None:
    """Kill the oldest worker with a call in flight; one killed before may be in the register yet."""
    system, store = sweep.system, sweep.system.store
    system.api.set_fault("*", slow=8)
    events = system.push_evenly(40, prefix=f"r{sweep.rounds}x{len(sweep.events)}e")
    sweep.events += events
    run_id = system.ask_for_run()

    def busy() -> int | None:
        ready = [one for one in store.processes.register().living(Role.WORKER) if one.state == "ready"]
        return next((one.pid for one in ready if Path(f"/proc/{one.pid}").exists() and calls_held(system, one)), None)

    os.kill(wait_until(busy, message="a worker has a call under way"), signal.SIGKILL)
    system.api.set_fault("*")
    sweep.records[run_id] = system.await_record(run_id, 30)


def restarted(sweep: Sweep) -> None:
    """Stop and start scheduler and supervisor; restart one that finds Redis away and reports it."""
    system = sweep.system
    for name in ("scheduler", "supervisor"):
        if name in system.processes:
            assert system.stop(name) == 0
    for name in ("scheduler", "supervisor"):
        system.start(name)
    wait_until(lambda: _are_up(system), timeout=40, message="both are up")
    sweep.run()


def _are_up(system: Behind) -> bool:
    for name in ("scheduler", "supervisor"):
        status = system.processes[name].poll()
        if status is not None:
            assert status == 4, (name, status)
            system.start(name)
    store = system.store
    return bool(
        store.leases.read().holder and store.processes.register().living(Role.SUPERVISOR) and len(system.workers()) == 2
    )


def reconfigured(sweep: Sweep) -> None:
    """Remove a type, and keep little."""
    store, event = sweep.system.store, f"g{sweep.rounds}:GONE"
    store.client.hset(store.keys.event(event), mapping={"item": "{}", "score": "1"})
    store.client.zadd(store.keys.ready("GONE"), {event: 1})
    store.client.hset(store.keys.totals, "taken:GONE", 0)
    sweep.run()
    sweep.run()


BUDGETED = """
[types.ONE]
processing_seconds = 1.0
rate_limit = "300/minute"
endpoints = [
  { name = "one", url = "http://127.0.0.1:1/one", budget = "both" },
  { name = "two", url = "http://127.0.0.1:1/two", budget = "both" },
]

[budgets.both]
rate_limit = "400/minute"
"""
TRY_TWICE = (("RLM_RETRY__MAX_ATTEMPTS", "2"), ("RLM_RETRY__MAX_RUNS", "50"))

ORDINARY = [Scenario(one.__name__, one) for one in (plain, longer, idle, reconnected, forgotten)]
IDLE = ORDINARY[2]
TROUBLED = Scenario("troubled", troubled, env=TRY_TWICE)
BEREAVED = Scenario("bereaved", bereaved, env=(("RLM_WORKERS__MIN", "6"), ("RLM_WORKERS__MAX", "6")))
RESTARTED = Scenario("restarted", restarted, start=lambda system: None)
KEEP_LITTLE = (("RLM_RUN__HISTORY", "1"),)
RECONFIGURED = Scenario("reconfigured", reconfigured, env=KEEP_LITTLE, document=BUDGETED)
ALL = [*ORDINARY, TROUBLED, RECONFIGURED, BEREAVED, RESTARTED]


@pytest.fixture(scope="module")
def sites(tmp_path_factory) -> dict[Scenario, list[Site]]:
    """The sites of scheduler, supervisor and workers, each with the first scenario that reaches it."""
    places = {kind: tmp_path_factory.mktemp("recording") for kind in {_kind(one) for one in ALL}}
    found: dict[Scenario, set[Site]] = {}

    def record(kind) -> None:
        scenarios = [one for one in ALL if _kind(one) == kind]
        with behind_proxies(places[kind], speed=SPEED, env=_env(scenarios[0]), document=kind[2]) as system:
            scenarios[0].start(system)
            sweep = Sweep(system)
            sweep.play(scenarios[0])  # the first round differs: everything is connected, loaded and told
            for scenario in scenarios:
                seen = Counter(site for _ in range(3) for site in sweep.sites(scenario))
                found[scenario] = {site for site, times in seen.items() if times > 1}  # not what chance brought

    with ThreadPoolExecutor(len(places)) as pool:
        list(pool.map(record, places))
    seen = set(ANNOUNCED)
    own = {}
    for scenario in ALL:
        own[scenario] = sorted(found[scenario] - seen)
        seen |= found[scenario]
    own[IDLE] += sorted(ANNOUNCED)
    own[TROUBLED] += [site for site in found[TROUBLED] if site[1] == "turn"]  # it does more there than in a plain run
    return own


def _kind(scenario: Scenario) -> tuple:
    """Return what systems must have in common to play the same scenarios."""
    return scenario.env, scenario.start, scenario.document


def _env(scenario: Scenario) -> dict[str, str]:
    return {**STEADY, **dict(scenario.env)}


def sweep_all(directory, cases: Iterable[tuple[Scenario, Site, Fault]], lanes: int = LANES) -> None:
    """Play all cases, which need one kind of system, on `lanes` systems; fail with all failures."""
    waiting: Queue[tuple[Scenario, Site, Fault]] = Queue()
    for case in cases:
        waiting.put(case)
    troubles: list[str] = []
    missed: list[str] = []
    kind = waiting.queue[0][0]
    number = waiting.qsize()

    def work(lane: int) -> None:
        with ExitStack() as stack:
            place = directory / f"lane{lane}"
            place.mkdir()
            system = stack.enter_context(behind_proxies(place, speed=SPEED, env=_env(kind), document=kind.document))
            kind.start(system)
            sweep = Sweep(system)
            sweep.play(kind)
            for scenario, site, fault in _taken(waiting):
                try:
                    if not sweep.fail(scenario, site, fault):
                        missed.append(f"{scenario.name}: {site}: {fault}: was not reached")
                except (AssertionError, StoreError) as error:
                    troubles.append(f"lane {lane}: {scenario.name}: {site}: {fault}: {error}")
            sweep.play(kind)

    with ThreadPoolExecutor(lanes) as pool:
        try:
            list(pool.map(work, range(lanes)))
        finally:  # on an interrupt the lanes end with the case they have
            list(_taken(waiting))
    print(*missed, sep="\n")
    assert not troubles, "\n" + "\n".join(troubles)
    # On a busy machine a run does not come by each of the sites that it may.
    assert len(missed) <= number * MISSED_SHARE, "\n" + "\n".join(missed)


def _taken(waiting: Queue) -> Iterator[tuple[Scenario, Site, Fault]]:
    while True:
        try:
            yield waiting.get_nowait()
        except Empty:
            return


def cases(sites, scenarios: Iterable[Scenario], *faults: Fault) -> list[tuple[Scenario, Site, Fault]]:
    """Return each site of the scenarios with each of the faults."""
    return [(scenario, site, fault) for scenario in scenarios for site in sites[scenario] for fault in faults]


def test_every_script_of_a_running_system_is_reached(sites):
    """No script is left out of what follows but those that only commands run."""
    reached = {site for own in sites.values() for _, site in own}
    reached |= {name for site in reached if site.startswith("pipeline(") for name in site[9:-1].split(", ")}
    for scenario, own in sites.items():
        print(scenario.name, *own, sep="\n  ")

    assert set(SCRIPTS) - reached == OF_COMMANDS | {"take_slots"}  # that one is for other programs


#: What is failed, and what only where there is time.
LOST_ELSE_LONG = pytest.mark.parametrize("fault", [Fault.LOST, pytest.param(Fault.RESET, marks=pytest.mark.long)])

#: Cases whose site may go by without the run coming there, as a share of all.
MISSED_SHARE = 0.1
BOTH_LONG = pytest.mark.parametrize(
    "fault", [pytest.param(one, marks=pytest.mark.long) for one in (Fault.LOST, Fault.RESET)]
)


@LOST_ELSE_LONG
def test_a_call_of_an_ordinary_run_fails(tmp_path, sites, fault):
    """Whatever call of an ordinary run fails: the run is closed, its events are done, the workers live."""
    sweep_all(tmp_path, cases(sites, ORDINARY, fault))


@BOTH_LONG
def test_a_call_fails_while_the_api_fails_too(tmp_path, sites, fault):
    """Retries, rests and dead letters: whatever call of theirs fails, they happen once."""
    sweep_all(tmp_path, cases(sites, [TROUBLED], fault))


@BOTH_LONG
def test_a_call_fails_that_only_a_changed_configuration_needs(tmp_path, sites, fault):
    """A type that is gone, letters and records beyond those kept: each is dealt with once."""
    sweep_all(tmp_path, cases(sites, [RECONFIGURED], fault), lanes=1)


@BOTH_LONG
def test_a_call_fails_when_a_worker_has_died(tmp_path, sites, fault):
    """Whatever call fails that frees what a dead worker held: it is freed in the end, and done by others."""
    sweep_all(tmp_path, cases(sites, [BEREAVED], fault))


@BOTH_LONG
def test_a_call_fails_when_processes_start_or_stop(tmp_path, sites, fault):
    """Whatever call fails then: the process starts, or ends with code 4; a stop is clean; what follows is as ever."""
    sweep_all(tmp_path, cases(sites, [RESTARTED], fault))


@pytest.mark.long
def test_the_scripts_are_forgotten_just_before_any_of_them(tmp_path, sites):
    """SCRIPT FLUSH right before each script in turn: it is loaded again and run once."""
    sweep_all(tmp_path, [case for case in cases(sites, ORDINARY, Fault.FLUSH) if case[1][1] in SCRIPTS])


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scenarios", [ORDINARY, [TROUBLED], [RECONFIGURED], [BEREAVED]])
def test_a_call_stalls_for_longer_than_anybody_waits(tmp_path, sites, scenarios):
    """A request lies about for longer than the client waits, and is carried out after all: late, and only once."""
    sweep_all(tmp_path, cases(sites, scenarios, Fault.STALL), lanes=6)


@dataclass(frozen=True)
class Command:
    """A command that runs its own script: what must exist for it, and what must hold after a repeat."""

    script: str
    words: tuple[str, ...]
    holds: Callable[[Behind], bool]


def _limits(system: Behind) -> dict[str, str]:
    return system.store.limits()


#: The item of a letter that a retry puts back: an earlier RLM refused it.
CURED = b'{"id": "cured", "wallet_name": "w", "events": ["ONE"]}'

COMMANDS = [
    Command("set_pause", ("endpoint", "pause", "one"), lambda system: _paused(system) is True),
    Command("set_pause", ("endpoint", "resume", "one"), lambda system: _paused(system) is False),
    Command("write_rules", ("endpoint", "limit", "one", "7/minute"), lambda system: "7" in _limits(system)["one"]),
    Command("remove_letter", ("failed", "retry", "--all"), lambda system: not system.letters() and _retried(system)),
    Command("remove_letter", ("failed", "drop", "--all", "--yes"), lambda system: not system.letters()),
]


def _paused(system: Behind) -> bool:
    health = system.store.keys.endpoint(system.settings.endpoints["one"].window_id)
    return bool(system.store.client.hexists(health, "pause"))


def _retried(system: Behind) -> bool:
    waiting = system.store.client.lrange(system.store.keys.events, 0, -1)
    return waiting.count(CURED) == 1


@pytest.mark.long
@LOST_ELSE_LONG
def test_a_call_of_a_command_fails(tmp_path, fault):
    """The command says that Redis failed, with code 4; repeated, it has done what it is for, once."""
    with behind_proxies(tmp_path, document=BUDGETED) as system:
        for command in COMMANDS:
            system.store.client.delete(system.store.keys.events, system.store.keys.failed)
            if command.script == "remove_letter":
                _write_letter(system)
            else:
                system.push([make_item("i", "ONE")])
            armed = system.proxies["command"].arm(command.script, fault)

            status = system.start("command", *command.words).wait(60)

            assert armed.fired.is_set(), command
            assert status == 4, (command, system.log("command"))
            system.rlm(*command.words, check=False)
            assert command.holds(system), command


def _write_letter(system: Behind) -> None:
    letter = encode_letter(CURED, Reason.BAD_VALUE, "no", failed_at=0, run_id=None, event=None)
    system.store.client.lpush(system.store.keys.failed, letter)
