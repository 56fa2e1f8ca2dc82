"""The demonstration: the whole system in a directory of its own, one window that can be watched, nothing left over."""

from __future__ import annotations

from rlm.demo.play import play
from rlm.demo.stage import staged
from rlm.demo.summary import prologue, summary
from rlm.demo.views import view_on

__all__ = ["play", "prologue", "staged", "summary", "view_on"]
