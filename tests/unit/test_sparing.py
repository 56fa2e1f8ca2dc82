"""A value that takes long to compute is computed less often, unless that was a hiccup."""

from __future__ import annotations

from types import SimpleNamespace

from rlm.admin import monitoring
from rlm.admin.monitoring import PATIENCE, Sparing


def test_a_single_slow_computation_does_not_make_a_page_stand_still(monkeypatch):
    """It may have been held up; the second one in a row is the rule."""
    now = [100.0]
    monkeypatch.setattr(monitoring, "system_clock", SimpleNamespace(monotonic=lambda: now[0]))
    took, computed = [0.1, 2.0, 2.0], []

    def compute():
        now[0] += took[len(computed)]
        computed.append(now[0])
        return len(computed)

    sparing = Sparing(compute, 1.0)

    assert sparing.get() == 1
    now[0] += 1.0
    assert sparing.get() == 2
    now[0] += 1.0
    assert sparing.get() == 3
    now[0] += PATIENCE * 2.0 - 0.1
    assert sparing.get() == 3


def test_the_first_computation_is_kept_as_long_as_it_took(monkeypatch):
    """There is none before it that could be quicker."""
    now, computed = [100.0], []
    monkeypatch.setattr(monitoring, "system_clock", SimpleNamespace(monotonic=lambda: now[0]))

    def compute():
        now[0] += 2.0
        computed.append(now[0])
        return len(computed)

    sparing = Sparing(compute, 0.0)

    assert [sparing.get(), sparing.get()] == [1, 1]
