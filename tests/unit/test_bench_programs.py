"""The work that a rival of the benchmarks gets."""

from __future__ import annotations

import pytest

from benchmarks.harness.loads import LOADS
from benchmarks.rivals.programs import PROGRAMS, Program
from rlm.sandbox.configuration import demo_document
from rlm.settings import load_settings


def settings_at(speed, directory):
    config = directory / "rlm.toml"
    config.write_text(demo_document(load_settings(None, {}), speed, "http://127.0.0.1:1"))
    return load_settings(config, {})


def job(settings, *, load="full", **options):
    return Program("rival", list, **options).job(LOADS[load], settings, "redis://127.0.0.1:1/0")


@pytest.mark.parametrize(("speed", "period", "guarded"), [(1, 60.0, 60.5), (10, 6.0, 6.05)])
def test_a_guarded_rival_pays_as_much_as_rlm_at_every_speed(tmp_path, speed, period, guarded):
    """RLM's guard is divided with the time, and so is what rivals add; padding against jitter comes on top as it is."""
    settings = settings_at(speed, tmp_path)

    def period_of(**options):
        (found,) = {one["seconds"] for ends in job(settings, **options)["types"].values() for one in ends}
        return found

    assert period_of() == period
    assert period_of(guarded=True) == pytest.approx(guarded)
    assert period_of(guarded=True, pad_seconds=0.4) == pytest.approx(guarded + 0.4)


@pytest.mark.parametrize(("load", "each"), [("half", 5), ("full", 5), ("skewed", 5), ("one-type", 25)])
def test_lanes_of_their_own_are_100_over_the_endpoints_that_have_events(tmp_path, load, each):
    """Where one type has all the events, its four endpoints have all the lanes, as RLM gives them."""
    settings = settings_at(10, tmp_path)

    assert job(settings, load=load)["lanes_each"] == each
    assert job(settings, load=load, lanes=500)["lanes_each"] == 5 * each


def test_every_rival_has_its_row_with_and_without_padding():
    """None is shown only as it is refused, none only as it is slowed down."""
    names = {one.name for one in PROGRAMS}
    plain = {"threads", "dramatiq", "celery", "bullmq"}

    assert plain | {f"{name}-padded" for name in plain} <= names
