"""The demonstration: the whole system in a directory of its own, one window at a time you can watch, nothing left."""

from __future__ import annotations

from rlm.demo.play import play
from rlm.demo.stage import staged
from rlm.demo.verdict import Verdict

__all__ = ["Verdict", "play", "staged"]
