"""The self-test of an installation: RLM's real parts on the configured Redis, against a mock API, then gone again."""

from __future__ import annotations

from rlm.sandbox.selftest.play import self_test
from rlm.sandbox.selftest.steps import SelfTestResult, Step

__all__ = ["SelfTestResult", "Step", "self_test"]
