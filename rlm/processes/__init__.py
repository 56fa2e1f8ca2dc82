"""Keeps the wanted number of worker processes alive on this host, and frees at once what a dead one held."""

from __future__ import annotations

from rlm.processes.supervisor import Supervisor

__all__ = ["Supervisor"]
