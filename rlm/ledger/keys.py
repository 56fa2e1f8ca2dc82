"""Every Redis key RLM uses, with its type, owner and lifetime. The only place where keys are spelled.

=========================  ======  ===========================================================================
key (after the prefix)     type    what it holds; who writes it; how long it lives
=========================  ======  ===========================================================================
(`queue.events`)           list    items of the audit system, which pushes left; the drain takes them away
(`queue.processing`)       list    the drain's staging list; empty between drains
(`queue.failed`)           list    dead letters, newest first; until retried, dropped or archived
aside                      list    items that were too large to be read, newest first; until somebody deletes them
lease                      hash    who conducts: owner, expires_us, token (the fencing number, which only grows), ended
                                   (the last run whose end was handled), excess (of its limits), ticked_at (when it
                                   last ticked, seconds); the configuration in force: revision, apart; which Redis is
                                   trusted: server, parted, parted_at, epoch, doubted_us, doubt; schema, the form of all
                                   this (`SCHEMA` of rlm/__init__.py); sequence, the counter of arrivals: the age of an
                                   event
event:ID                   hash    one event with its trail (lua/turn.lua); once settled, without its item, for
                                   `queue.dedupe_seconds`; of a failed one `letter`, the digest of its dead letter
ready:TYPE                 zset    events that wait for a call, by priority, then age; leftovers while no run is open
due                        zset    `ID` of a claimed event -> the end of its lease (microseconds of Redis time);
                                   `later ID` of one that waits for another attempt -> when; `inf`: it spent those of
                                   this run, and is ready again when it closes
held:WORKER                hash    lane -> the number of its last ask, and the call that it holds
free:TYPE                  zset    `RANK ENDPOINT` -> when it may take its next call; 0 is now. A lower bound
open                       zset    `RANK TYPE` -> when it may be used, likewise; of types with ready events, in a run
rules                      hash    what the scripts know of the configuration, in MessagePack: `ENDPOINT` -> its windows
                                   and times; `type TYPE` -> `RANK TYPE`; `sharing WINDOW` -> endpoints; and as text
                                   `limit WINDOW`, `filed WINDOW` -> the limit in force, and as the file last had it
window:HASH                zset    calls (`EVENT_ID CLAIMS`) by the stamps of their slots, while a rule counts them;
                                   of a URL, or of a budget's name: its slots are those of its endpoints together
endpoint:HASH              hash    of the same: rest, pause, probe, failures in a row, calls refused within its limit,
                                   last name, since when its calls are known, and who was answered last
run                        hash    the open run: run_id, state, deadline, plan, the suspect called apart; else absent
tally                      hash    its counts, `what:name`, `trouble:ENDPOINT WHAT`; between
                                   runs `taken:TYPE`, letters retried for the next one, and `dropped:TYPE`, leftovers
calls                      stream  every call made (rlm/ledger/calls.py), for a day; the newest half million
totals                     hash    what is counted over all runs, the fields of tallies, rlm/ledger/calls.py;
                                   each closed run adds to it
records                    hash    run id -> record (JSON); the newest `run.history` by their ids
conditions                 hash    `CODE SUBJECT` -> since when it lasts, as it was logged
changes                    list    records of changed limits, pauses and resumes (JSON), newest first; the newest 1000
processes                  hash    `ROLE ID` -> when it was heard last (us of Redis time), and what it announced (JSON),
                                   until it signs off or somebody has cleaned up after it; wanted, how many
                                   workers the conductor wants; restarts, how many ever ended unexpectedly
requests                   hash    a request to start a run -> its answer (JSON), empty before; until its asker has it,
                                   or no other came for a minute
wake:WHOM                  -       pub/sub channel that wakes workers, supervisors, or the scheduler
(PREFIX-test-*)            -       not under the prefix: keys of `rlm test`, of a prefix of its own
=========================  ======  ===========================================================================
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from rlm.settings.model import QueueSettings


class _Key:
    """A key of `Keys`: its name behind the prefix, and its type in Redis."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.kind = name, kind

    def __get__(self, keys: Keys, _owner: type[Keys]) -> str:
        return f"{keys.prefix}{self.name}"


class _Family:
    """A key for each of many names."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __get__(self, keys: Keys, _owner: type[Keys]) -> Callable[[str], str]:
        start = f"{keys.prefix}{self.name}:"
        return lambda name: f"{start}{name}"


class Keys:
    """The keys of one installation, by its prefix and its three list names."""

    lease, rules, run = _Key("lease", "hash"), _Key("rules", "hash"), _Key("run", "hash")
    tally, totals = _Key("tally", "hash"), _Key("totals", "hash")
    records, processes, requests = _Key("records", "hash"), _Key("processes", "hash"), _Key("requests", "hash")
    conditions, due, open = _Key("conditions", "hash"), _Key("due", "zset"), _Key("open", "zset")
    aside, changes, calls = _Key("aside", "list"), _Key("changes", "list"), _Key("calls", "stream")
    event, held, wake = _Family("event"), _Family("held"), _Family("wake")
    ready, free = _Family("ready"), _Family("free")  #: of a type
    window, endpoint = _Family("window"), _Family("endpoint")  #: by the hash of a URL, or of a budget's name

    def __init__(self, prefix: str, queue: QueueSettings) -> None:
        self.prefix = f"{prefix}:"  #: the beginning of every key but the three lists, for scripts that build them
        self.events, self.processing, self.failed = queue.events, queue.processing, queue.failed

    def kinds(self, types: Iterable[str], window_ids: Iterable[str]) -> dict[str, str]:
        """Return the type that each key should have, of these event types, endpoints and budgets."""
        kinds = dict.fromkeys((self.events, self.processing, self.failed), "list")
        kinds |= {f"{self.prefix}{key.name}": key.kind for key in vars(Keys).values() if isinstance(key, _Key)}
        kinds |= {key: "zset" for name in types for key in (self.ready(name), self.free(name))}
        for window_id in window_ids:
            kinds |= {self.window(window_id): "zset", self.endpoint(window_id): "hash"}
        return kinds
