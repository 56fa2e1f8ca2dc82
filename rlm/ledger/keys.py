"""Every Redis key RLM uses, with its type, owner and lifetime. The only place where keys are spelled.

=========================  ======  ===========================================================================
key (after the prefix)     type    what it holds; who writes it; how long it lives
=========================  ======  ===========================================================================
(`queue.events`)           list    items of the audit system, which pushes left; the drain takes them away
(`queue.processing`)       list    the drain's staging; empty between drains
(`queue.failed`)           list    dead letters, newest first; until retried, dropped or archived
aside:LIST                 list    names of the giants of a list, those staged or dead letters too large to be read;
                                   until each is a dead letter, or archived
giant:NAME                 string  one of them
lease                      hash    who conducts: owner, expires_us, token (the fencing number, which only grows)
sequence                   string  counter of arrivals: the age of an event
epoch                      hash    what the memory of Redis is vouched for with: born, id, server, slots ever taken; and
                                   when and why it was last found wanting
types                      set     names of the types that have or had events in the ledger
event:ID                   hash    one event, its trail with it (rlm/core/trail.py); until settled, then
                                   `queue.dedupe_seconds` without its item
pending:TYPE               zset    events to be released, by priority, then age; leftovers while no run is open
backoff:TYPE               zset    events waiting for another attempt, by when (microseconds of Redis time)
spent:TYPE                 zset    events that spent their attempts of this run; pending again when it closes
released:TYPE              zset    events whose message is sent, by when it is void
inflight:TYPE              zset    claimed events, by the end of their lease; negative until they have a slot
retried:TYPE               zset    dead letters retried by hand, pending from the next run on
current                    string  id of the open run; absent between runs
run:ID                     hash    the open run: state, deadline, plan; until it is closed
tally:ID                   hash    its counts, `what:name`, and `failing:TYPE ENDPOINT`, `trouble:ENDPOINT WHAT`; until
timings:ID                 list    its completed calls, as `complete_event` writes them; until it is closed
totals                     hash    what is counted over all runs, the fields of tallies and those of rlm/core/tally.py;
                                   it only grows, by each run that is closed
measured                   hash    `TYPE URLHASH` -> durations, failures of past runs (JSON); see rlm/core/expected.py
expected                   hash    `TYPE ENDPOINT` -> microseconds a call takes, and needs; published by the conductor
records                    hash    run id -> record (JSON); until archived, which all but the newest `run.history` are
runs                       list    ids of those records, newest first
last_tick                  string  when the scheduler last ticked, seconds since 1970
window:URLHASH             list    stamps of the slots taken, newest first; 24 h, or the longest rule
moved:URLHASH              list    `STAMP SENT` of slots that count from a period or more after their calls were sent,
                                   newest first; as long as the window
health:URLHASH             hash    an endpoint's rest, pause, probe, failures in a row, calls it refused
                                   within its limit, how far back its slots are kept
window:, ...:NAMEHASH      all     the same of a budget, whose slots are those of its endpoints together
budgets                    hash    window id of an endpoint -> that of the budget that its calls are counted on; both of
                                   them -> when that ended
limits, limits:filed       hash    endpoint or budget name -> its limit in force, and as the file last had it
changes                    list    records of changed limits, pauses and resumes (JSON), newest first; the newest 1000
wanted                     string  number of workers wanted; written by the conductor
dropped                    hash    `run`, a closed one, and `events:TYPE`, its leftovers that were dropped by hand;
                                   until leftovers of a newer one are
coming_up                  string  seconds that workers take to come up where none is ready; written by the conductor
restarts                   string  workers that ended unexpectedly, ever; written by the supervisors
restarted:WORKER           string  a mark that its unexpected end has been counted; an hour
processes:ROLE             set     ids of the workers, supervisors or schedulers that may be alive; a worker's until
                                   somebody has cleaned up after it
process:ROLE:ID            string  one of them (JSON); expires when it is no longer heard of
calls:WORKER               hash    event id -> the call under way in one of the worker's lanes
alone:WORKER               string  id of the event that it carries alone, suspected of killing it; empty: kept free
requests                   list    asks to start a run (JSON), taken by the scheduler
reply:ID                   string  the answer to one of them; a minute
quarantine                 hash    key set aside -> which it was, what was wrong, when (JSON): rlm/ledger/quarantine.py
quarantine:KEY:MS          any     what a key held that could not stand there; until somebody deletes it
wake:WHOM                  -       pub/sub channel that wakes workers, supervisors, or the scheduler
dramatiq:*                 -       the broker's own: messages, which are claim checks and may be lost
(PREFIX-test-*)            -       beside the prefix: those of self-tests; see rlm/ledger/selftests.py
=========================  ======  ===========================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlm.settings import Settings


class Keys:
    """Spells the keys of one installation, from its prefix and its three list names."""

    def __init__(self, settings: Settings) -> None:
        prefix = settings.redis.prefix
        self._prefix = prefix
        self.events = settings.queue.events
        self.processing = settings.queue.processing
        self.failed = settings.queue.failed
        self.lease = f"{prefix}:lease"
        self.epoch = f"{prefix}:epoch"
        self.sequence = f"{prefix}:sequence"
        self.types = f"{prefix}:types"
        self.current = f"{prefix}:current"
        self.records = f"{prefix}:records"
        self.totals = f"{prefix}:totals"
        self.runs = f"{prefix}:runs"
        self.last_tick = f"{prefix}:last_tick"
        self.budgets = f"{prefix}:budgets"
        self.limits = f"{prefix}:limits"
        self.limits_filed = f"{prefix}:limits:filed"
        self.changes = f"{prefix}:changes"
        self.measured = f"{prefix}:measured"
        self.expected = f"{prefix}:expected"
        self.wanted = f"{prefix}:wanted"
        self.dropped = f"{prefix}:dropped"
        self.coming_up = f"{prefix}:coming_up"
        self.restarts = f"{prefix}:restarts"
        self.requests = f"{prefix}:requests"
        self.quarantine = f"{prefix}:quarantine"
        self.dramatiq = f"{prefix}:dramatiq"

    def aside(self, entries: str) -> str:
        """Return the list of names of what was set aside from the list `entries`."""
        return f"{self._prefix}:aside:{entries}"

    def giant(self, name: str) -> str:
        """Return the string that holds what was set aside under a name."""
        return f"{self._prefix}:giant:{name}"

    def event(self, event_id: str) -> str:
        """Return the hash of one event."""
        return f"{self._prefix}:event:{event_id}"

    def pending(self, type_name: str) -> str:
        """Return the zset of a type's events to be released."""
        return f"{self._prefix}:pending:{type_name}"

    def backoff(self, type_name: str) -> str:
        """Return the zset of a type's events that wait for another attempt."""
        return f"{self._prefix}:backoff:{type_name}"

    def spent(self, type_name: str) -> str:
        """Return the zset of a type's events that spent their attempts of this run."""
        return f"{self._prefix}:spent:{type_name}"

    def released(self, type_name: str) -> str:
        """Return the zset of a type's released, unclaimed events."""
        return f"{self._prefix}:released:{type_name}"

    def inflight(self, type_name: str) -> str:
        """Return the zset of a type's claimed events."""
        return f"{self._prefix}:inflight:{type_name}"

    def retried(self, type_name: str) -> str:
        """Return the zset of a type's events that were dead letters and enter the next run."""
        return f"{self._prefix}:retried:{type_name}"

    def run(self, run_id: str) -> str:
        """Return the hash of an open run."""
        return f"{self._prefix}:run:{run_id}"

    def tally(self, run_id: str) -> str:
        """Return the hash of an open run's counts."""
        return f"{self._prefix}:tally:{run_id}"

    def timings(self, run_id: str) -> str:
        """Return the list of an open run's completed calls."""
        return f"{self._prefix}:timings:{run_id}"

    def window(self, window_id: str) -> str:
        """Return the list of an endpoint's slots, by the hash of its URL, or of a budget's, by that of its name."""
        return f"{self._prefix}:window:{window_id}"

    def moved(self, window_id: str) -> str:
        """Return the list of those slots of a window that count from later than their calls were sent."""
        return f"{self._prefix}:moved:{window_id}"

    def health(self, window_id: str) -> str:
        """Return the hash of an endpoint's health, by the hash of its URL, or of a budget's, by that of its name."""
        return f"{self._prefix}:health:{window_id}"

    def processes(self, role: str) -> str:
        """Return the set of ids of a role's processes."""
        return f"{self._prefix}:processes:{role}"

    def process(self, role: str, process_id: str) -> str:
        """Return the entry of one process."""
        return f"{self._prefix}:process:{role}:{process_id}"

    def calls(self, worker_id: str) -> str:
        """Return the hash of the calls under way in one worker."""
        return f"{self._prefix}:calls:{worker_id}"

    def alone(self, worker_id: str) -> str:
        """Return the id of the event that one worker carries alone."""
        return f"{self._prefix}:alone:{worker_id}"

    def restarted(self, worker_id: str) -> str:
        """Return the mark that a worker's unexpected end has been counted."""
        return f"{self._prefix}:restarted:{worker_id}"

    def reply(self, request_id: str) -> str:
        """Return the answer to one request."""
        return f"{self._prefix}:reply:{request_id}"

    def set_aside(self, key: str, at: float) -> str:
        """Return where what stood in `key` goes that was set aside at `at` (seconds since 1970)."""
        return f"{self.quarantine}:{key.removeprefix(f'{self._prefix}:')}:{round(at * 1000)}"

    def family(self, name: str) -> str:
        """Return the pattern of all keys of a family, `event` for one; no prefix holds anything that patterns mean."""
        return f"{self._prefix}:{name}:*"

    def brokers(self, name: str) -> str:
        """Return a key of the broker's own."""
        return f"{self.dramatiq}:{name}"

    def wake(self, whom: str) -> str:
        """Return the channel that wakes `workers`, `supervisors` or `scheduler`."""
        return f"{self._prefix}:wake:{whom}"

    def holders(self, type_name: str) -> tuple[str, str, str, str]:
        """Return the zsets of a type that only an open run fills: released, inflight, backoff, spent."""
        return self.released(type_name), self.inflight(type_name), self.backoff(type_name), self.spent(type_name)
