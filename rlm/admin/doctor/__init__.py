"""What a check of `rlm doctor` finds. The examination puts the name of the check before the `part`."""

from __future__ import annotations

from rlm.ledger.fitness import Finding, Severity


def good(message: str, part: str = "") -> Finding:
    """Return a finding that all is well."""
    return Finding(part, ok=True, message=message)


def warning(message: str, remedy: str, part: str = "") -> Finding:
    """Return a finding that RLM works, but at a risk."""
    return Finding(part, ok=False, message=message, remedy=remedy, severity=Severity.WARNING)


def fault(message: str, remedy: str) -> Finding:
    """Return a finding that something does not work."""
    return Finding("", ok=False, message=message, remedy=remedy)
