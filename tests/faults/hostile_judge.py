"""Compares what a client recorded of a hostile server's answers with the server's decisions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from tests.faults.hostile_plan import Call


def _told(call: Call) -> str:
    """Return the server's side of one call, for a person."""
    stale = f" on a connection poisoned by {call.poisoned_by}, gap {call.gap * 1000:.1f} ms" if call.poisoned_by else ""
    return (
        f"{call.event_id} attempt {call.attempt} ({call.trick}{stale}, connection {call.connection}): decided "
        f"{call.decision}, wrote {call.meant}, complete {call.complete}, may be {'/'.join(sorted(call.acceptable))}"
        + (f" [{call.note.strip()}]" if call.note else "")
    )


def misjudged(
    calls: Iterable[Call], recorded: Mapping[tuple[str, int], str | Sequence[str]], race_seconds: float = 0.02
) -> list[str]:
    """Return a line for each call whose recorded word is unacceptable, missing, or about no call.

    A throttled call is sent again under the same attempt. So `recorded` may give a list of words for the calls of one
    key; a single word is the last call's, and each call before it must be one that may be sent again. No client can
    distinguish unsolicited bytes that arrive during its request from an answer: calls misjudged by bytes that came at
    most `race_seconds` before the request are omitted (0.0: only if the request was first; -1: none is omitted).
    """
    groups: dict[tuple, list[Call]] = defaultdict(list)
    for call in calls:
        if call.attempt is not None:
            groups[call.event_id, call.attempt].append(call)
    lines = [
        f"{key}: recorded {said}, but the server never read such a call"
        for key, said in recorded.items()
        if key not in groups and said not in ("retry", ["retry"])
    ]
    for key, group in groups.items():
        said = recorded.get(key, "nothing")
        words = [said] if isinstance(said, str) else list(said)
        if len(words) != len(group):
            words = ["sent-again"] * (len(group) - 1) + words[-1:]
        for call, word in zip(group, words, strict=False):
            fits = call.acceptable & {"retry", "throttled"} if word == "sent-again" else word in call.acceptable
            if not fits and not (call.poisoned_by and call.gap <= race_seconds):
                lines.append(f"recorded {word}: {_told(call)}")
    return lines


def reused(calls: Iterable[Call], race_seconds: float = 0.02) -> list[str]:
    """Return a line for each call on a connection that the client could have known to be poisoned."""
    return [_told(call) for call in calls if call.poisoned_by and call.gap > race_seconds]
