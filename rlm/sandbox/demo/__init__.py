"""The demo: the whole system in a temporary directory, and one window to watch."""

from __future__ import annotations

from rlm.sandbox.demo.play import play
from rlm.sandbox.demo.summary import prologue, summary
from rlm.sandbox.demo.views import view_on

__all__ = ["play", "prologue", "summary", "view_on"]
