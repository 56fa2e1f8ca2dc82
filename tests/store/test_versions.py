"""Versions side by side: data of a newer one is ignored, and an older one does not continue what it cannot."""

from __future__ import annotations

import logging

import pytest

from rlm import SCHEMA
from rlm.admin.doctor.processes import check_versions
from rlm.admin.hosts import hosts
from rlm.core import trail
from rlm.core.errors import FencedError, RunError
from rlm.ledger import leases as leases_module
from rlm.ledger import processes as processes_module
from rlm.ledger.claims import find_note
from rlm.ledger.control import What
from rlm.ledger.inspection import inspect
from rlm.ledger.letters import is_letter
from rlm.ledger.processes import Process, Role
from rlm.settings import load_settings
from scheduler.leader import Leader
from tests.store import looks, steps

#: The schema of a version to come.
NEWER = SCHEMA + 1


@pytest.fixture
def newer():
    """Be the next version inside a block; with a `least` of NEWER it bars this one."""

    class Newer:
        def __call__(self, least=0):
            self.least = least
            return self

        def __enter__(self):
            self.patch = pytest.MonkeyPatch()
            for module in (leases_module, processes_module):
                self.patch.setattr(module, "SCHEMA", NEWER)
            self.patch.setattr(leases_module, "LEAST_TO_CONDUCT", self.least)

        def __exit__(self, *_exc):
            self.patch.undo()

    return Newer()


def announce(store, role, version="9.9", **facts):
    store.processes.announce(role, Process(f"h:1:{role}", 1, "h", 1.0, version=version, **facts))


def write_unknown(store, run_id):
    """Write possible data of a future version, wherever this one checks entries."""
    keys, client = store.keys, store.client
    client.hset(keys.calls("h:1:w"), "i1:T", "call in a new notation, 7")
    client.lpush(keys.changes, b'{"at": 1, "by": "me@h", "name": "a", "what": "turned around", "from": 0, "to": 0}')
    client.lpush(keys.releases, b'{"in": "new clothes"}')
    client.hset(keys.tally(run_id), "mean:T", "0.5")
    client.hset(keys.health("0" * 16), "rest_until_us", "when the cows come home")
    client.set(keys.wanted, "as many as you like")
    store.processes.enter(Role.WORKER, ["h:1:w"])


def test_what_a_newer_version_wrote_is_not_set_aside(store, conductor, newer, caplog):
    """Its workers may have come before its scheduler: as soon as one of them has said that it works."""
    run = steps.open_run(store, conductor._leader.token)
    write_unknown(store, run.id)
    assert inspect(store, deep=True, records=True)  # this version takes it for damage
    with newer():
        announce(store, Role.SUPERVISOR)
    conductor._leader._renewed_at = float("-inf")
    caplog.set_level(logging.WARNING)

    for _ in range(3):
        conductor._leader._renewed_at = float("-inf")
        conductor._leader.keep()
        with looks.nothing_changes(store):
            conductor._mender.mend()

    assert store.quarantine.all() == []
    (told,) = [one.message for one in caplog.records if one.__dict__.get("action") == "meet_newer"]
    assert told.startswith("rlm 9.9 works here, whose schema is above that of this scheduler")


def test_what_this_version_takes_for_damage_is_mended_where_no_newer_one_works(store, conductor):
    """An older one changes nothing of that."""
    run = steps.open_run(store, conductor._leader.token)
    announce(store, Role.SUPERVISOR)
    store.client.hset(store.keys.schemas, "0", "0.0.9")
    write_unknown(store, run.id)
    conductor._leader._renewed_at = float("-inf")

    conductor._leader.keep()
    conductor._mender.mend()

    assert len(store.quarantine.all()) >= 4


def test_a_register_of_schemas_that_is_damaged_bars_nobody(store, conductor):
    """It is set aside, and written again with the next heartbeat."""
    store.client.set(store.keys.schemas, "rubbish")
    assert store.leases.acquire(conductor._leader.owner, 3) == conductor._leader.token
    conductor._mender.mend()
    store.client.hset(store.keys.schemas, "inf", "x")
    store.client.hset(store.keys.schemas, "9" * 40, "x")
    conductor._leader._renewed_at = float("-inf")

    conductor._leader.keep()

    assert conductor._leader.newer == ""
    conductor._mender.mend()
    announce(store, Role.SCHEDULER)
    assert store.leases.newest() == (SCHEMA, "9.9")


def test_a_scheduler_that_is_barred_gives_the_lease_up_and_takes_it_no_more(store, newer):
    """A newer one has conducted with what this one cannot go on with: it stands by, and says so."""
    ours, theirs = Leader(store.leases, "old"), Leader(store.leases, "new")
    assert ours.campaign()
    ours.resign()
    with newer(least=NEWER):
        assert theirs.campaign()
        theirs.resign()

    assert not ours.campaign()
    assert (ours.barred, ours.newer, store.leases.holder()) == (True, f"of a schema {NEWER}", None)
    with newer(least=NEWER):
        assert theirs.campaign()
    assert not ours.campaign()
    assert ours.holder == theirs.owner


def test_a_leader_is_deposed_where_a_newer_version_has_conducted(store, newer):
    """While it was frozen, say: what it would write then would not be what the other one left."""
    ours, theirs = Leader(store.leases, "old"), Leader(store.leases, "new")
    assert ours.campaign()
    store.leases.acquire(ours.owner, 0)
    with newer(least=NEWER):
        assert theirs.campaign()
        theirs.resign()
    ours._renewed_at = float("-inf")

    with pytest.raises(FencedError):
        ours.keep()


def test_a_command_that_is_barred_says_so_at_once(store, newer, conductor):
    """It would wait for a scheduler that does not answer."""
    conductor.resign()
    with newer(least=NEWER):
        store.leases.acquire("new", 0)

    with pytest.raises(RunError, match=r"has conducted here: .* Upgrade this host"):
        conductor.campaign(5)


def test_a_newer_version_that_bars_nobody_can_be_succeeded(store, newer):
    """A run goes on under an older scheduler: that is what a way back takes."""
    ours, theirs = Leader(store.leases, "old"), Leader(store.leases, "new")
    with newer():
        announce(store, Role.SCHEDULER)
        assert theirs.campaign()
        theirs.resign()

    assert ours.campaign()
    assert (ours.barred, ours.newer) == (False, "9.9")


def test_fields_that_are_not_known_are_passed_over(store, conductor):
    """Of the register, a run, an event, a release, the note of a call, a trail, a letter: the rest is read."""
    token, client, keys = conductor._leader.token, store.client, store.keys
    steps.push(store, *steps.items(1, steps.TYPE))
    run = steps.start_run(store, token)
    announce(store, Role.WORKER)
    key = keys.process(Role.WORKER, f"h:1:{Role.WORKER}")
    client.set(key, client.get(key)[:-1] + b', "mood": {"good": 1}}', px=10_000)
    client.hset(keys.run(run.id), mapping={"mood": "good"})
    client.hset(keys.event(steps.event_id(1)), mapping={"mood": "good"})

    assert store.processes.alive(Role.WORKER)[0].version == "9.9"
    assert store.runs.current() is not None
    claim = steps.claim_next(store, token, run)
    assert claim.event_id == steps.event_id(1)
    note = find_note(b"1:00ff|1700000000000000|api||mood=good")
    assert note is not None
    assert (note.endpoint, note.budget_id) == ("api", "")
    assert find_note(b"1:00ff|1700000000000000|api|aa|mood=good").budget_id == "aa"
    assert inspect(store, deep=True, records=True) == []


def test_entries_of_a_kind_that_is_not_known_hide_no_others(store, token):
    """A change, the end of a call in a trail; a dead letter with an unknown reason stays in its list."""
    store.client.lpush(
        store.keys.changes, b'{"at": 1, "by": "x", "name": "a", "what": "hue", "from": null, "to": "red"}'
    )
    store.client.lpush(
        store.keys.changes, b'{"at": 1, "by": "x", "name": "a", "what": "limit", "from": null, "to": "1/s"}'
    )
    assert [one.what for one in store.changes.newest()] == [What.LIMIT]

    fields = {b"trail": b"2", b"t1": b'1 0 ["r", 1, "api", "swallowed", "", 1.0, "h"]'}
    fields[b"t2"] = b'2 0 ["r", 2, "api", "completed", "HTTP 200", 1.0, "h", 0.0, {"more": 1}]'
    assert [one.number for one in trail.read(fields)] == [2]

    letter = b'{"id": "x", "reason": "bored", "event_id": null, "item": {}, "detail": "", "failed_at": ""}'
    store.client.lpush(store.keys.failed, letter)
    assert not is_letter(letter)
    assert store.letters.count() == 1


def test_the_revision_of_a_configuration_is_that_of_the_version_before(tmp_path):
    """Else workers of either would claim nothing of the other's runs during an upgrade."""
    config = tmp_path / "rlm.toml"
    config.write_text("")

    assert load_settings(config, {}).revision == "bac2b4fc1559"


def test_hosts_that_are_behind_say_so(store):
    """By the newest that works, whatever its number says; and by the configuration of the leader."""
    for name, schema, facts in (("a", SCHEMA, {"revision": "r"}), ("b", 0, {"revision": "r"}), ("c", SCHEMA, {})):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(processes_module, "SCHEMA", schema)
            store.processes.announce(Role.SUPERVISOR, Process(f"{name}:1:s", 1, name, 1.0, version="0.1.0", **facts))
    store.leases.acquire("a:2:l", 600)
    store.processes.announce(Role.SCHEDULER, Process("a:2:l", 2, "a", 1.0, version="0.1.0", revision="r"))

    told = {one["host"]: one["behind"] for one in hosts(store)}

    assert told == {
        "a": [],
        "b": ["supervisor b:1:s: an earlier rlm 0.1.0, where rlm 0.1.0 works"],
        "c": ["supervisor c:1:s: another configuration than that of a:2:l, which leads"],
    }


def test_a_run_in_a_state_that_is_not_known_is_left_to_the_newer_version(store, conductor, newer):
    """It is neither closed nor set aside, and the older scheduler is barred from it."""
    token = conductor._leader.token
    run = steps.open_run(store, token)
    with newer(least=NEWER):
        announce(store, Role.SCHEDULER)
        store.leases.release(conductor._leader.owner)
        store.leases.acquire("new", 0)
    store.client.hset(store.keys.run(run.id), "state", "rehearsing")

    conductor._leader._renewed_at = float("-inf")
    with looks.nothing_changes(store), pytest.raises(FencedError):
        conductor._leader.keep()

    assert store.client.hget(store.keys.run(run.id), "state") == b"rehearsing"


def test_who_has_been_restarted_with_a_changed_file_is_not_behind(store, conductor):
    """It is the leader that has not been; `rlm doctor` would have the supervisor restarted again and again."""
    leads, revision = conductor._leader.owner, store.settings.revision
    store.processes.announce(Role.SCHEDULER, Process(leads, 1, "h", 1.0, revision="old", version="9.9"))
    announce(store, Role.SUPERVISOR, revision=revision)
    assert not any("is behind" in one for one in check_versions(store).message.split(", "))

    announce(store, Role.SUPERVISOR, revision="older still")
    assert f"another configuration than that of {leads}, which leads" in check_versions(store).message
