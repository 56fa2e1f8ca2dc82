"""Whether calls take what the configuration says, and if not, what to write there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rlm.core.expected import MEASURED_CALLS, quantile
from rlm.ledger.fitness import Finding, Severity
from rlm.settings.toml import dotted

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rlm.core.endpoint import EventType
    from rlm.core.expected import Measured, Pair

#: A time that is off by more than this share and this many seconds is worth a warning: a median of calls that is longer
#: than what is configured, or of one endpoint that differs from that of all.
OFF_SHARE = 0.25
OFF_SECONDS = 0.05
#: A configured time that is longer than what calls take is cautious, until it is so many times as long.
CAUTIOUS_TIMES = 2.0


def check_times(types: Sequence[EventType], kept: Mapping[Pair, Measured]) -> Iterator[Finding]:
    """Compare the configured time of each type with its calls of the last runs, at all its endpoints together."""
    for event_type in types:
        durations = {
            endpoint.name: kept[event_type.name, endpoint.name].milliseconds
            for endpoint in event_type.endpoints
            if (event_type.name, endpoint.name) in kept
        }
        yield _check_type(event_type, durations)


def _check_type(event_type: EventType, durations: Mapping[str, Sequence[float]]) -> Finding:
    name, configured = f"times.{event_type.name}", event_type.processing_seconds
    together = [one for milliseconds in durations.values() for one in milliseconds]
    if len(together) < MEASURED_CALLS:
        measured = "1 call was" if len(together) == 1 else f"{len(together)} calls were"
        message = f"{measured} measured, too few to compare with the {configured} s configured"
        return Finding(name, ok=True, message=message)
    median = _median_seconds(together)
    takes = f"completed calls of {event_type.name} took {_rounded(median)} s (median of {len(together)})"
    message = f"{takes}, the configuration says {configured} s"
    apart = [
        f"{endpoint} takes {_rounded(alone)} s (median of {len(milliseconds)})"
        for endpoint, milliseconds in durations.items()
        if len(milliseconds) >= MEASURED_CALLS and _is_off(alone := _median_seconds(milliseconds), median)
    ]
    if apart:
        message += f"; {', '.join(apart)}"
    if _is_off(median, configured) and (median > configured or configured > CAUTIOUS_TIMES * median):
        key = dotted(("types", event_type.name, "processing_seconds"))
        remedy = f"set {key} = {_rounded(median)}"
        return Finding(name, ok=False, message=message, remedy=remedy, severity=Severity.WARNING)
    if apart:
        remedy = "see what is wrong there; plans reckon with what is measured of each endpoint"
        return Finding(name, ok=False, message=message, remedy=remedy, severity=Severity.WARNING)
    return Finding(name, ok=True, message=message)


def _is_off(seconds: float, should_be: float) -> bool:
    return abs(seconds - should_be) > max(OFF_SHARE * should_be, OFF_SECONDS)


def _median_seconds(milliseconds: Sequence[float]) -> float:
    return quantile(sorted(milliseconds), 0.50) / 1000


def _rounded(seconds: float) -> float:
    """Round to what is worth writing into a file: two digits."""
    return float(f"{seconds:.2g}")
