"""How long a process may take to stop, from the inside out. Each period is longer than the one that it waits for.

A call ends within its time-out. A worker finishes its calls, a supervisor waits for its workers, whoever started the
supervisor waits for that, and the unit of systemd for `rlm up` waits for the scheduler and then the supervisor.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rlm.settings import Settings

#: Seconds beyond the longest call that a worker has to finish its calls.
WORKER_SLACK_SECONDS: Final = 2.0
#: The same of a supervisor's workers: one that ends by itself does so before it is killed.
SUPERVISOR_SLACK_SECONDS: Final = WORKER_SLACK_SECONDS + 1.0
#: The same of each process of a group (`rlm up`, the demo, the self-test): a supervisor also kills and reaps.
GROUP_SLACK_SECONDS: Final = SUPERVISOR_SLACK_SECONDS + 5.0

#: How often a process that is to end at once gets another TERM, seconds; its second one means at once.
REPEAT_SECONDS: Final = 0.25
#: How long it has before it is killed, seconds.
HASTE_SECONDS: Final = 2.0
#: How long a killed process is waited for, seconds: others may hold its output open.
LINGER_SECONDS: Final = 5.0


def longest_call(settings: Settings) -> float:
    """Return the longest time-out of a call, seconds."""
    return max(endpoint.timeout_seconds for endpoint in settings.endpoints.values())


def worker_grace(settings: Settings) -> float:
    """Return how long a worker has to finish its calls, seconds."""
    return longest_call(settings) + WORKER_SLACK_SECONDS


def supervisor_grace(settings: Settings) -> float:
    """Return how long a supervisor waits for its workers, seconds."""
    return longest_call(settings) + SUPERVISOR_SLACK_SECONDS


def group_grace(settings: Settings) -> float:
    """Return how long each process of a group has to end, seconds."""
    return longest_call(settings) + GROUP_SLACK_SECONDS
