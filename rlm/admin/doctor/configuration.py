"""Where the configuration comes from, and what is wrong with it where it cannot be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.admin.doctor.findings import fault, good

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rlm.core.errors import ConfigurationError
    from rlm.ledger.fitness import Finding
    from rlm.settings import Settings


def check_configuration(settings: Settings) -> Iterator[Finding]:
    """Tell where the configuration comes from, and how much is in it."""
    source = f"file {settings.source}" if settings.source else "the built-in defaults, whose endpoints are examples"
    types, endpoints = len(settings.event_types), len(settings.endpoints)
    yield good("configuration", f"{source}; {types} types, {endpoints} endpoints, revision {settings.revision}")


def unusable(error: ConfigurationError) -> Iterator[Finding]:
    """Tell each fault of a configuration that cannot be used."""
    remedy = "correct it: no process of RLM starts with it; those that run go on with what they have read"
    for line in str(error).splitlines():
        yield fault("configuration", line, remedy)
