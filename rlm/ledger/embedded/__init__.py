"""The embedded server: a real Valkey in a directory, started by its first user, stopped by the last to leave."""

from __future__ import annotations

from rlm.ledger.embedded.server import EmbeddedServer, running

__all__ = ["EmbeddedServer", "running"]
