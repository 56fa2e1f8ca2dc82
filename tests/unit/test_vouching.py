"""How a conductor handles a clock step: once, whoever noticed it, and whatever fails meanwhile."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from unittest import mock

import pytest

from rlm.core.endpoint import Endpoint, Limit
from rlm.core.errors import StoreUnfitError, StoreUnreachableError
from rlm.ledger.dataloss import Continuity, Vouched
from scheduler import redis_watch
from scheduler.redis_watch import FIT_SECONDS, IDLE_FIT_SECONDS, UNKNOWN, RedisWatch


class Redis:
    """A store whose clock can be set, as far as the watch uses one."""

    def __init__(self):
        self.ahead = 0.0
        self.shifted_us = 0
        self.distrust = ""
        self.held = []
        self.lost_replies = 0
        self.client = self.epochs = self
        endpoint = Endpoint("one", "http://127.0.0.1:1/one", Limit.parse("5/minute"), 1.0)
        self.settings = SimpleNamespace(endpoints={"one": endpoint}, run=SimpleNamespace(guard_seconds=0.5))
        self.unfit = ""
        self.runs = SimpleNamespace(current=lambda: None)
        self.processes = SimpleNamespace(end_in_time=lambda: None)

    def endpoints(self):
        return self.settings.endpoints

    def claim(self):
        """Do nothing: its directory is ours."""

    def vouch(self, _token):
        verdict = Continuity.FORGOT if self.distrust else Continuity.KEPT
        return Vouched(verdict, round((1000.0 + self.ahead) * 1_000_000), self.shifted_us, self.distrust)

    def watch(self):
        return round((1000.0 + self.ahead) * 1_000_000), self.shifted_us

    def shift_stamps(self, _token, _run_id, shift_us, why):
        self.shifted_us += shift_us
        self.distrust = why
        self._reply()

    def limits(self):
        return {}

    def renew(self, _token, why, *, underway_seconds):
        self.distrust = ""
        self.held.append(why)
        self.underway_seconds = underway_seconds
        self._reply()

    def _reply(self):
        if self.lost_replies:
            self.lost_replies -= 1
            raise StoreUnreachableError("away")


@pytest.fixture
def redis():
    return Redis()


@pytest.fixture
def make_voucher(redis, monkeypatch):
    """Make watches that have checked once, with this machine's clock standing still."""

    def require_fit(*_args, **_options):
        if redis.unfit:
            raise StoreUnfitError(redis.unfit)

    monkeypatch.setattr(redis_watch, "require_fit", require_fit)
    clock = mock.Mock(boottime=lambda: 100.0, monotonic=itertools.count(100, FIT_SECONDS).__next__)
    monkeypatch.setattr(redis_watch, "system_clock", clock)

    def make():
        voucher = RedisWatch(redis, mock.Mock(token=1), allow_volatile=False)
        voucher.check()
        return voucher

    return make


@pytest.mark.parametrize("step", [7.0, -7.0])
def test_a_step_moves_what_is_to_come_and_holds_every_endpoint(redis, make_voucher, step):
    """Once: at the next checks nothing has stepped."""
    voucher = make_voucher()
    redis.ahead = step

    for _ in range(3):
        voucher.check()

    assert redis.shifted_us == voucher.shifted_us == round(step * 1_000_000)
    assert len(redis.held) == 1
    assert "stepped by" in redis.held[0]


@pytest.mark.parametrize("lost_replies", [1, 2])
def test_a_step_that_redis_failed_in_is_followed_once_and_held_for(redis, make_voucher, lost_replies):
    """Whatever was carried out unheard is not done again, and what was not is."""
    voucher = make_voucher()
    redis.ahead, redis.lost_replies = 7.0, lost_replies

    for _ in range(lost_replies):
        with pytest.raises(StoreUnreachableError):
            voucher.check()
    voucher.check()

    assert redis.shifted_us == voucher.shifted_us == 7_000_000
    assert redis.held
    assert not redis.distrust


@pytest.mark.parametrize(("by_hand", "underway_seconds"), [({}, 1.0), ({"one": "5/hour"}, 1.0 + 3540.0)])
def test_a_forgotten_limit_is_waited_for_as_long_as_it_was(redis, make_voucher, by_hand, underway_seconds):
    """A call may take its time-out; one set by hand may have had a longer period than the file's, which holds again."""
    redis.limits = lambda: by_hand
    voucher = make_voucher()
    redis.limits = dict
    redis.vouch = lambda _token: Vouched(Continuity.FORGOT, 1_000_000_000, 0, "")

    voucher.check()

    assert redis.underway_seconds == underway_seconds


def test_who_comes_after_one_that_died_before_it_held_holds(redis, make_voucher):
    """What stands in Redis says why."""
    make_voucher()
    redis.distrust = "it stepped"

    make_voucher()

    assert redis.held == ["it stepped"]


def test_a_redis_that_becomes_unfit_is_told_of_every_few_seconds_until_it_is_fit(redis, make_voucher, caplog):
    """As long as it is, the voucher says why, however seldom a leader without a run would look. Each look takes 4 s."""
    caplog.set_level("INFO")
    voucher = make_voucher()
    redis.unfit = "it would evict"

    for _ in range(6):
        voucher.check(fit_seconds=IDLE_FIT_SECONDS if voucher.unfit else FIT_SECONDS)
    assert voucher.unfit == "it would evict"
    redis.unfit = ""
    voucher.check()

    assert voucher.unfit == ""
    assert caplog.text.count("until Redis is fit again: it would evict") == 3
    assert caplog.text.count("is fit again") == 4


def test_who_cannot_tell_holds(redis, make_voucher):
    """Nobody here knows what the server had to remember."""
    voucher = make_voucher()
    redis.vouch = lambda _token: Vouched(Continuity.UNKNOWN, 1_000_000_000, 0, "")

    voucher.check()

    assert redis.held == [UNKNOWN]
