"""What a client recorded of a hostile server's answers, compared with what that server decided."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tests.faults.hostile_plan import Call


def _told(call: Call) -> str:
    """The server's side of one call, for a human."""
    stale = f" on a connection poisoned by {call.poisoned_by}, gap {call.gap * 1000:.1f} ms" if call.poisoned_by else ""
    return (
        f"{call.event_id} attempt {call.attempt} ({call.trick}{stale}, connection {call.connection}): decided "
        f"{call.decision}, wrote {call.meant}, complete {call.complete}, may be {'/'.join(sorted(call.acceptable))}"
        + (f" [{call.note.strip()}]" if call.note else "")
    )


def misjudged(
    calls: Iterable[Call], recorded: Mapping[tuple[str, int], str | Sequence[str]], race_seconds: float = 0.02
) -> list[str]:
    """One line for each call whose recorded word is not acceptable, or that is missing, or that never was.

    A throttled call is sent again under the same attempt. So for several calls of one key `recorded` may give a
    list of as many words; with a single word that is the last call's, and each call before it must be one that may
    be sent again. No client can tell unsolicited bytes that reach it while its request is on the way from an answer:
    calls misjudged by bytes that were there no more than `race_seconds` before the request was seen are left out
    (0.0: only where the request was there first; -1: none is left out).
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
    """One line for each call on a connection that the client could have known to carry unsolicited bytes."""
    return [_told(call) for call in calls if call.poisoned_by and call.gap > race_seconds]
