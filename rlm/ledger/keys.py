"""Every Redis key RLM uses, with its type, owner and lifetime. The only place where keys are spelled.

=========================  ======  ===========================================================================
key (after the prefix)     type    what it holds; who writes it; how long it lives
=========================  ======  ===========================================================================
(`queue.events`)           list    items of the audit system, which pushes left; the drain takes them away
(`queue.processing`)       list    the drain's staging list; empty between drains
(`queue.failed`)           list    dead letters, newest first; until retried, dropped or archived
aside                      list    items that were too large to be read, newest first; until somebody deletes them
lease                      hash    who conducts: owner, expires_us, token (the fencing number, which only grows), ended
                                   (the last run whose end was handled), ticked_at (when it last ticked, seconds); the
                                   configuration in force: revision, apart; which Redis is trusted: server, parted,
                                   epoch, doubted_us, doubt; schema, the form of all this (`SCHEMA` of rlm/__init__.py);
                                   sequence, the counter of arrivals: the age of an event
event:ID                   hash    one event with its trail (rlm/core/trail.py); until settled, then without its item
                                   for `queue.dedupe_seconds`
ready:TYPE                 zset    events that wait for a call, by priority, then age; leftovers while no run is open
inflight                   zset    claimed events of all types, by the end of their lease (microseconds of Redis time)
backoff                    zset    events waiting for another attempt, by when; `inf`: they spent those of this run, and
                                   are ready again when it closes
held:WORKER                hash    lane -> the number of its last ask, and the call that it holds (rlm/ledger/held.py)
free:TYPE                  zset    `RANK ENDPOINT` -> when it may take its next call; 0 is now. A lower bound
open                       zset    `RANK TYPE` -> when it may be used, likewise; of types with ready events, in a run
rules                      hash    what the scripts know of the configuration: `ENDPOINT` -> its windows, limits, times
                                   (JSON); `type TYPE` -> its rank and share; `sharing WINDOW` -> endpoints (JSON);
                                   `limit WINDOW`, `filed WINDOW` -> the limit in force, and as the file last had it
window:HASH                zset    calls (`EVENT_ID CLAIMS`) by the stamps of their slots, while a rule counts them;
                                   of a URL, or of a budget's name: its slots are those of its endpoints together
endpoint:HASH              hash    of the same: rest, pause, failures in a row, calls refused within its limit, last
                                   name, hold, and who was answered last
run                        hash    the open run: run_id, state, deadline, plan; absent between runs
tally                      hash    its counts, `what:name`, `failing:TYPE ENDPOINT`, `trouble:ENDPOINT WHAT`; between
                                   runs `taken:TYPE`, letters retried for the next one, and `dropped:TYPE`, leftovers
calls                      stream  every call made (rlm/ledger/calls.py), for a day; the newest half million
totals                     hash    what is counted over all runs, the fields of tallies and those of rlm/core/tally.py;
                                   each closed run adds to it
measured                   hash    `TYPE URLHASH` -> durations, failures of past runs (JSON); see rlm/core/expected.py
records                    hash    run id -> record (JSON); the newest `run.history` by their ids
changes                    list    records of changed limits, pauses and resumes (JSON), newest first; the newest 1000
processes                  hash    `ROLE ID` -> when it was heard last (us of Redis time), and what it announced (JSON),
                                   until it signs off or somebody has cleaned up after it; wanted, how many
                                   workers the conductor wants; restarts, how many ever ended unexpectedly
requests                   hash    a request to start a run -> its answer (JSON), empty before; for a minute, or until
                                   its asker has it
wake:WHOM                  -       pub/sub channel that wakes workers, supervisors, or the scheduler
(PREFIX-test-*)            -       not under the prefix: keys of `rlm test`, of a prefix of its own
=========================  ======  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm.settings.model import QueueSettings


class KeyType(StrEnum):
    """The Redis types that RLM uses; the values are those of `TYPE`."""

    HASH = "hash"
    LIST = "list"
    ZSET = "zset"
    STREAM = "stream"


#: The types of the keys, by their names in `Keys`.
KINDS: Mapping[str, KeyType] = {
    **dict.fromkeys(("events", "processing", "failed", "aside", "changes"), KeyType.LIST),
    **dict.fromkeys(("lease", "rules", "run", "tally", "totals", "measured", "records"), KeyType.HASH),
    **dict.fromkeys(("processes", "requests", "endpoint", "held"), KeyType.HASH),
    **dict.fromkeys(("ready", "inflight", "backoff", "free", "open", "window"), KeyType.ZSET),
    "calls": KeyType.STREAM,
}


class Keys:
    """Builds the keys of one installation from its prefix and its three list names."""

    def __init__(self, prefix: str, queue: QueueSettings) -> None:
        self.prefix = f"{prefix}:"  #: the beginning of every key but the three lists, for scripts that build them
        self.events, self.processing, self.failed = queue.events, queue.processing, queue.failed
        alone, each = self._alone, self._each
        self.lease, self.rules, self.open = map(alone, ("lease", "rules", "open"))
        self.inflight, self.backoff, self.aside = map(alone, ("inflight", "backoff", "aside"))
        self.run, self.tally, self.calls = map(alone, ("run", "tally", "calls"))
        self.records, self.totals, self.measured = map(alone, ("records", "totals", "measured"))
        self.processes, self.requests, self.changes = map(alone, ("processes", "requests", "changes"))
        self.event = each("event")
        self.ready, self.free = each("ready"), each("free")  #: of a type
        self.window, self.endpoint = each("window"), each("endpoint")  #: by the hash of a URL, or of a budget's name
        self.held = each("held")  #: of a worker
        self.wake = each("wake")  #: the channel of `workers`, `supervisors` or `scheduler`

    def _alone(self, name: str) -> str:
        return f"{self.prefix}{name}"

    def _each(self, family: str) -> Callable[[str], str]:
        start = f"{self.prefix}{family}:"
        return lambda name: f"{start}{name}"


#: Items up to this many bytes are pushed, even if `queue.max_item_bytes` is smaller.
READABLE_BYTES = 1_000_000


def longest_item(max_item_bytes: int) -> int:
    """Return the size up to which a line is pushed as an item."""
    return max(max_item_bytes, READABLE_BYTES)


def longest_letter(max_item_bytes: int) -> int:
    """Return the size up to which a dead letter is read; it may hold an item as base64, or the names of its types."""
    return 2 * longest_item(max_item_bytes) + 10_000


def longest_bulk(max_item_bytes: int) -> int:
    """Return the argument length that the embedded server must accept.

    RLM's longest arguments are dead letters, and a record with 10,000 endpoints, about 3 MB.
    """
    return 2 * longest_letter(max_item_bytes)
