"""Slots are taken only from a trusted server: one that remembers all known slots."""

from __future__ import annotations

import errno
import os

import pytest

from rlm.core import files
from rlm.core.errors import FencedError
from rlm.ledger import epoch_file
from rlm.ledger.claims import Admitted, Refused
from rlm.ledger.dataloss import Continuity
from tests.store.windows import make_endpoint, take


@pytest.fixture
def endpoint():
    """An endpoint whose limit is never met here."""
    return make_endpoint("100/minute")


@pytest.fixture
def fresh(store):
    """A store whose server is not trusted yet."""
    store.client.delete(store.keys.epoch)
    return store


def verdict(store, token):
    return store.epochs.vouch(token).verdict


def restart(store, **remembered):
    """Act as if the server had been restarted, with this memory of its epoch."""
    store.client.hset(store.keys.epoch, mapping={"server": "0" * 40, **remembered})


def slots(store):
    return int(store.client.hget(store.keys.epoch, "slots"))


def test_nobody_gets_a_slot_from_a_server_that_nobody_vouched_for(fresh, token, endpoint):
    """It is refused for a moment, and granted as soon as a conductor has vouched."""
    assert fresh.windows.acquire(endpoint) == Refused(0.02)

    assert verdict(fresh, token) is Continuity.NEW

    assert isinstance(fresh.windows.acquire(endpoint), Admitted)


def test_the_answer_tells_the_time_there(fresh, token):
    """Microseconds of Redis time, for those who watch its clock."""
    now_us = fresh.epochs.vouch(token).now_us

    later_us, _ = fresh.windows.look(())
    assert 0 <= later_us - now_us < 5_000_000


def test_a_restarted_server_that_remembers_everything_is_vouched_for(fresh, token, endpoint):
    """Until somebody has, it gives no slots; then it does, and nothing is held."""
    fresh.epochs.vouch(token)
    take(fresh, endpoint, 3)
    fresh.epochs.vouch(token)
    restart(fresh)
    assert isinstance(fresh.windows.acquire(endpoint), Refused)

    assert verdict(fresh, token) is Continuity.RESTARTED

    take(fresh, endpoint)


@pytest.mark.parametrize("empty", [True, False], ids=["empty", "older"])
def test_a_server_that_forgot_slots_gives_none(fresh, token, endpoint, empty):
    """Neither one that came back empty nor one that came back as it was before the last slots."""
    fresh.epochs.vouch(token)
    take(fresh, endpoint, 3)
    fresh.epochs.vouch(token)

    if empty:
        fresh.client.delete(fresh.keys.epoch)
    else:
        restart(fresh, slots=2)

    for _ in range(2):
        assert verdict(fresh, token) is Continuity.FORGOT
        assert isinstance(fresh.windows.acquire(endpoint), Refused)


def test_a_server_that_is_not_restarted_but_older_is_noticed_too(fresh, token, endpoint):
    """Its data may have been replaced while it ran."""
    fresh.epochs.vouch(token)
    take(fresh, endpoint, 3)
    fresh.epochs.vouch(token)
    fresh.client.hset(fresh.keys.epoch, "slots", 1)

    assert verdict(fresh, token) is Continuity.FORGOT
    assert isinstance(fresh.windows.acquire(endpoint), Refused)


def test_the_next_conductor_of_this_host_knows_what_the_last_one_saw(fresh, make_store, token, endpoint):
    """It reads it from a file, so a Redis that forgot while nobody conducted is noticed as well."""
    fresh.epochs.vouch(token)
    successor = make_store()
    fresh.client.delete(fresh.keys.epoch)

    assert verdict(successor, token) is Continuity.FORGOT


def test_a_standby_knows_what_it_watched(fresh, make_store, token, endpoint, tmp_path):
    """It has no file of its own yet, and learned what there is from Redis."""
    fresh.epochs.vouch(token)
    take(fresh, endpoint, 3)
    standby = make_store()
    standby.epochs._file._path = tmp_path / "another host.json"
    standby.epochs.watch()
    restart(fresh, slots=2)

    assert verdict(standby, token) is Continuity.FORGOT


def test_a_standby_leaves_the_file_to_the_conductor(fresh, make_store, token, endpoint):
    """On one host both have the same, and what a standby saw a moment ago is less than the conductor has seen."""
    fresh.epochs.vouch(token)
    standby = make_store()
    standby.epochs.watch()
    take(fresh, endpoint, 3)
    fresh.epochs.vouch(token)
    fresh.epochs.close()

    standby.epochs._file._saved_at = float("-inf")
    standby.epochs.watch()
    take(fresh, endpoint, 2)
    standby.epochs.watch()
    standby.epochs.close()

    assert make_store().epochs._file.read().slots == 3


def test_a_file_that_cannot_be_read_is_no_reason_to_stop(fresh, make_store, token, caplog):
    """It is told, and what Redis has is taken for true."""
    fresh.epochs.vouch(token)
    other = make_store()
    other.epochs._file._path.write_bytes(b"\xff{")

    assert verdict(other, token) is Continuity.KEPT
    assert "cannot be read" in caplog.text


@pytest.fixture(params=["full", "read-only"])
def disk(request):
    """A disk that accepts no new file once told to; a full one overwrites existing files."""

    class Disk:
        kind = request.param

        def fail(self):
            def refuse(number):
                raise OSError(number, os.strerror(number), "epoch.json.beside")

            full = self.kind == "full"
            patch.setattr(epoch_file, "replace_file", lambda *_: refuse(errno.ENOSPC if full else errno.EROFS))
            patch.setattr(files, "replace_file", lambda *_: refuse(errno.ENOSPC if full else errno.EROFS))
            if not full:
                patch.setattr(epoch_file, "overwrite_file", lambda *_: refuse(errno.EROFS))

        def recover(self):
            patch.undo()

    with pytest.MonkeyPatch.context() as patch:
        yield Disk()


def look_again(store, token):
    """Vouch once more, and save what is known by now."""
    store.epochs._file._saved_at = float("-inf")
    return verdict(store, token)


def lose_sight(store, token, endpoint, disk):
    """Let a conductor save one slot, and take three more that it cannot save."""
    store.epochs.vouch(token)
    take(store, endpoint)
    look_again(store, token)
    disk.fail()
    take(store, endpoint, 3)
    assert look_again(store, token) is Continuity.KEPT


@pytest.mark.parametrize("remembered", [1, 2])
def test_a_file_that_could_not_be_written_vouches_for_no_other_server(
    fresh, make_store, token, endpoint, disk, remembered
):
    """It says of fewer slots than were taken: an older state of Redis would pass for complete."""
    lose_sight(fresh, token, endpoint, disk)
    fresh.epochs.close()
    restart(fresh, slots=remembered)
    successor = make_store()

    for _ in range(2):
        assert verdict(successor, token) is Continuity.UNKNOWN
        assert isinstance(fresh.windows.acquire(endpoint), Refused)


def test_a_scheduler_alone_that_starts_anew_holds_nothing_up(fresh, make_store, token, endpoint, disk):
    """The same server knows every slot that it gave."""
    lose_sight(fresh, token, endpoint, disk)
    successor = make_store()

    assert verdict(successor, token) is Continuity.KEPT
    disk.recover()
    assert look_again(successor, token) is Continuity.KEPT
    assert make_store().epochs._file.read().slots == 4


def test_a_standby_learns_nothing_of_a_server_that_nobody_vouched_for(fresh, make_store, token, endpoint, tmp_path):
    """It came up while the lease of a dead conductor stood: what it sees first may be what is left of more."""
    fresh.epochs.vouch(token)
    take(fresh, endpoint)
    restart(fresh)
    standby = make_store()
    standby.epochs._file._path = tmp_path / "another host.json"

    standby.epochs.watch()

    assert verdict(standby, token) is Continuity.UNKNOWN


def test_an_epoch_that_somebody_began_who_knew_nothing_is_not_trusted_by_who_knows(
    fresh, make_store, token, endpoint, tmp_path
):
    """Redis came back empty, and a conductor of another host, without a file, was there first."""
    fresh.epochs.vouch(token)
    take(fresh, endpoint, 3)
    fresh.epochs.vouch(token)
    knowing, ignorant = fresh, make_store()
    fresh.client.delete(fresh.keys.epoch)
    ignorant.epochs._file._path = tmp_path / "of another host.json"
    assert verdict(ignorant, token) is Continuity.NEW

    knowing.epochs.watch()

    assert verdict(knowing, token) is Continuity.FORGOT


def test_where_distrust_stands_alone_nobody_vouches(fresh, token):
    """Redis came back empty while its clock was followed: also who knows nothing does not take it for new."""
    fresh.client.hset(fresh.keys.epoch, "distrust", "it stepped")

    assert verdict(fresh, token) is Continuity.FORGOT


def test_who_knows_nothing_cannot_tell_what_a_restarted_server_forgot(fresh, make_store, token, endpoint, tmp_path):
    """It may have been restored from a backup, the file here being gone with the rest: it gives no slots."""
    fresh.epochs.vouch(token)
    take(fresh, endpoint)
    restart(fresh)
    ignorant = make_store()
    ignorant.epochs._file._path = tmp_path / "of another host.json"

    for _ in range(2):
        assert verdict(ignorant, token) is Continuity.UNKNOWN
        assert isinstance(fresh.windows.acquire(endpoint), Refused)


def test_a_deposed_conductor_vouches_for_nothing(fresh, token):
    """It may not know what the new one knows."""
    with pytest.raises(FencedError):
        fresh.epochs.vouch(token - 1)

    assert not fresh.client.exists(fresh.keys.epoch)
