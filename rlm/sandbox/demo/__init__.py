"""The demonstration: the whole system in a directory of its own, one window that can be watched, nothing left over."""

from __future__ import annotations

from rlm.sandbox.demo.play import play
from rlm.sandbox.demo.summary import prologue, summary
from rlm.sandbox.demo.views import view_on

__all__ = ["play", "prologue", "summary", "view_on"]
