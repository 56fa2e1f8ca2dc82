"""The fault tests use whole systems, like the acceptance tests."""

from __future__ import annotations

from tests.acceptance.conftest import make_system, system

__all__ = ["make_system", "system"]
