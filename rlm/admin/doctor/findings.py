"""How a check says what it found: well, a risk, or a fault; with the remedy where it is not well."""

from __future__ import annotations

from rlm.ledger.fitness import Finding, Severity


def good(name: str, message: str) -> Finding:
    """Say that all is well with `name`."""
    return Finding(name, ok=True, message=message)


def warning(name: str, message: str, remedy: str) -> Finding:
    """Say that RLM works, with a risk that is worth knowing."""
    return Finding(name, ok=False, message=message, remedy=remedy, severity=Severity.WARNING)


def fault(name: str, message: str, remedy: str) -> Finding:
    """Say that something does not work."""
    return Finding(name, ok=False, message=message, remedy=remedy)
