"""Every Redis key RLM uses, with its type, owner and lifetime. The only place where keys are spelled.

=========================  ======  ===========================================================================
key (after the prefix)     type    what it holds; who writes it; how long it lives
=========================  ======  ===========================================================================
(`queue.events`)           list    items of the audit system, which pushes left; the drain takes them away
(`queue.processing`)       list    the drain's staging list; empty between drains
(`queue.failed`)           list    dead letters, newest first; until retried, dropped or archived
aside                      list    items that were too large to be read, newest first; until somebody deletes them
lease                      hash    who conducts: owner, expires_us, token (the fencing number, which only grows), ended
                                   (the last run whose end was handled)
schema                     string  the form in which all this is kept: `SCHEMA` of rlm/__init__.py; permanent
sequence                   string  counter of arrivals: the age of an event
epoch                      hash    the epoch that Redis is vouched for with: born, id, server, slots ever taken; and
                                   when and why it was last found untrustworthy
types                      set     names of the types that have or had events in the ledger
event:ID                   hash    one event with its trail (rlm/core/trail.py); until settled, then without its item
                                   for `queue.dedupe_seconds`
pending:TYPE               zset    events that wait for a call, by priority, then age; leftovers while no run is open
backoff:TYPE               zset    events waiting for another attempt, by when (microseconds of Redis time)
spent:TYPE                 zset    events that spent their attempts in this run; pending again when it closes
inflight:TYPE              zset    claimed events, by the end of their lease; negative until they have a slot
retried:TYPE               zset    dead letters retried by hand, pending from the next run on
releases                   list    calls that lanes may make, the next one first (JSON): `Release`, rlm/ledger/turns.py
current                    string  id of the open run; absent between runs
run:ID                     hash    the open run: state, deadline, plan; until it is closed
tally:ID                   hash    its counts, `what:name`, `failing:TYPE ENDPOINT`, `trouble:ENDPOINT WHAT`; likewise
timings:ID                 list    its completed calls, as `complete_event` writes them; until it is closed
totals                     hash    what is counted over all runs, the fields of tallies and those of rlm/core/tally.py;
                                   each closed run adds to it
measured                   hash    `TYPE URLHASH` -> durations, failures of past runs (JSON); see rlm/core/expected.py
expected                   hash    `TYPE ENDPOINT` -> microseconds a call takes, and needs; published by the conductor
records                    hash    run id -> record (JSON); all but the newest `run.history` are archived
runs                       list    ids of those records, newest first
last_tick                  string  when the scheduler last ticked, seconds since 1970
window:URLHASH             list    stamps of the slots taken, newest first; 24 h, or the longest rule
moved:URLHASH              list    `STAMP SENT` of slots that count from a period or more after their calls were sent,
                                   newest first; kept as long as the window
health:URLHASH             hash    an endpoint's rest, pause, probe, failures in a row, calls refused within its limit,
                                   last name, and how far back its slots are kept
ways                       hash    `HOST URLHASH` -> a host's way to an endpoint that is in trouble; `HOST` -> since
                                   when the host is in trouble; see rlm/ledger/ways.py. Empty while all is well
well:URLHASH, well         zset    hosts, by when a call of theirs was answered last, by that endpoint, or by any;
                                   for half a minute
window:, ...:NAMEHASH      all     the same for a budget, whose slots are those of its endpoints together
budgets                    hash    window id of an endpoint -> that of its budget; both ids joined -> when an earlier
                                   pairing ended
limits, limits:filed       hash    endpoint or budget name -> its limit in force, and as the file last had it
changes                    list    records of changed limits, pauses and resumes (JSON), newest first; the newest 1000
wanted                     string  number of workers wanted; written by the conductor
dropped                    hash    `run`, a closed one, and `events:TYPE`, its leftovers that were dropped by hand;
                                   until leftovers of a newer run are dropped
coming_up                  string  seconds that workers take to start if none is ready; written by the conductor
restarts                   string  all workers that ended unexpectedly, ever; written by the supervisors
restarted:WORKER           string  a mark that its unexpected end has been counted; kept an hour
processes:ROLE             set     ids of the workers, supervisors or schedulers that may be alive; a worker's until
                                   somebody has cleaned up after it
process:ROLE:ID            string  one of them (JSON); expires when it is no longer heard from
calls:WORKER               hash    event id -> the note of the call in one of the worker's lanes (rlm/ledger/claims.py)
requests                   list    requests to start a run (JSON), taken by the scheduler
reply:ID                   string  the answer to one of them; kept a minute
wake:WHOM                  -       pub/sub channel that wakes workers, supervisors, or the scheduler
dramatiq:*                 -       the broker's own keys: messages, which only wake lanes and may be lost
(PREFIX-test-*)            -       not under the prefix: keys of `rlm test`, of a prefix of its own
=========================  ======  ===========================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import TYPE_CHECKING

from rlm.core.trail import Place

if TYPE_CHECKING:
    from rlm.settings.model import QueueSettings


class KeyType(StrEnum):
    """The Redis types that RLM uses; the values are those of `TYPE`."""

    STRING = "string"
    HASH = "hash"
    LIST = "list"
    SET = "set"
    ZSET = "zset"


#: The broker's keys, as its script names them for the queue `rlm`; the last one is per worker.
BROKER: Mapping[str, KeyType] = {
    "__heartbeats__": KeyType.ZSET,
    "rlm": KeyType.LIST,
    "rlm.msgs": KeyType.HASH,
    "rlm.XQ": KeyType.ZSET,
    "rlm.XQ.msgs": KeyType.HASH,
    "__acks__.WORKER.rlm": KeyType.SET,
}


#: The types of the other keys, by their names in `Keys`.
KINDS: Mapping[str, KeyType] = {
    **dict.fromkeys(("schema", "sequence", "current", "last_tick", "wanted", "coming_up", "restarts"), KeyType.STRING),
    **dict.fromkeys(
        ("events", "processing", "failed", "releases", "runs", "changes", "requests", "aside"), KeyType.LIST
    ),
    **dict.fromkeys(("lease", "epoch", "totals", "measured", "expected", "records", "dropped", "ways"), KeyType.HASH),
    **dict.fromkeys(("budgets", "limits", "limits_filed"), KeyType.HASH),
    **dict.fromkeys(("pending", "backoff", "spent", "inflight", "retried", "well", "well_hosts"), KeyType.ZSET),
    **dict.fromkeys(("run", "tally", "health", "calls"), KeyType.HASH),
    **dict.fromkeys(("timings", "window", "moved"), KeyType.LIST),
    **dict.fromkeys(("types", "processes"), KeyType.SET),
}


class Keys:
    """Builds the keys of one installation from its prefix and its three list names."""

    def __init__(self, prefix: str, queue: QueueSettings) -> None:
        self._prefix = prefix
        self.events, self.processing, self.failed = queue.events, queue.processing, queue.failed
        self.lease, self.schema, self.epoch = f"{prefix}:lease", f"{prefix}:schema", f"{prefix}:epoch"
        self.sequence, self.types, self.releases = f"{prefix}:sequence", f"{prefix}:types", f"{prefix}:releases"
        self.current, self.records, self.runs = f"{prefix}:current", f"{prefix}:records", f"{prefix}:runs"
        self.totals, self.last_tick, self.requests = f"{prefix}:totals", f"{prefix}:last_tick", f"{prefix}:requests"
        self.budgets, self.limits, self.limits_filed = f"{prefix}:budgets", f"{prefix}:limits", f"{prefix}:limits:filed"
        self.changes = f"{prefix}:changes"
        self.measured, self.expected = f"{prefix}:measured", f"{prefix}:expected"
        self.wanted, self.dropped = f"{prefix}:wanted", f"{prefix}:dropped"
        self.coming_up, self.restarts = f"{prefix}:coming_up", f"{prefix}:restarts"
        self.aside = f"{prefix}:aside"
        self.dramatiq = f"{prefix}:dramatiq"
        self.ways, self.well_hosts = f"{prefix}:ways", f"{prefix}:well"
        each = self._each
        self.event = each("event")
        #: Of a type.
        self.pending, self.backoff, self.spent = each("pending"), each("backoff"), each("spent")
        self.inflight, self.retried = each("inflight"), each("retried")
        self.run, self.tally, self.timings = each("run"), each("tally"), each("timings")  #: of a run
        #: By the hash of an endpoint's URL, or of a budget's name.
        self.window, self.moved, self.health, self.well = each("window"), each("moved"), each("health"), each("well")
        self.processes = each("processes")  #: of a role
        self.calls, self.restarted = each("calls"), each("restarted")  #: of a worker
        self.reply = each("reply")  #: to a request
        self.wake = each("wake")  #: the channel of `workers`, `supervisors` or `scheduler`

    def _each(self, family: str) -> Callable[[str], str]:
        start = f"{self._prefix}:{family}:"
        return lambda name: f"{start}{name}"

    def process(self, role: str, process_id: str) -> str:
        """Return the entry of one process."""
        return f"{self._prefix}:process:{role}:{process_id}"

    def brokers(self, name: str) -> str:
        """Return one of the broker's own keys."""
        return f"{self.dramatiq}:{name}"

    def zsets(self, type_name: str) -> dict[Place, str]:
        """Return all zsets of a type, by the place of the events in each."""
        return {
            Place.PENDING: self.pending(type_name),
            Place.IN_FLIGHT: self.inflight(type_name),
            Place.BACKING_OFF: self.backoff(type_name),
            Place.SPENT: self.spent(type_name),
            Place.RETRIED: self.retried(type_name),
        }

    def holders(self, type_name: str) -> tuple[str, str, str]:
        """Return the zsets of a type that only an open run fills: inflight, backoff, spent."""
        return self.inflight(type_name), self.backoff(type_name), self.spent(type_name)


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
