"""The ledger: every event in exactly one state, each step between states one script that checks what it moves."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import redis

from rlm.core import trail
from rlm.core.clock import system_clock
from rlm.core.endpoint import ANSWER_SLACK_SECONDS
from rlm.core.event import BadItemError, Reason, decode_item, encode_letter, is_type_name, type_of
from rlm.core.text import safe_line
from rlm.core.trail import CallEnd, Counts, Heard
from rlm.ledger.connect import ESCAPED, names_of, translated
from rlm.ledger.expected import read_expected
from rlm.ledger.quarantine import Quarantine
from rlm.ledger.scripts import Call, Script, run_many
from rlm.ledger.sound import is_note
from rlm.ledger.windows import KEEP_SECONDS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from redis.client import Pipeline

    from rlm.core.expected import Expected, Pair
    from rlm.ledger.keys import Keys

#: A release that nobody claims is void after this many seconds, and its event pending again.
CLAIM_SECONDS = 1.0
#: An event in whose lease this many workers died is a dead letter: it may be what kills them. The last of them has
#: nothing else in hand: an event one death short of it is carried alone, so that none dies of its batch-mate.
POISON_DEATHS = 3
#: A worker is kept free for so long for an event that is to be carried alone and has to wait, if it does not ask again.
HOLD_SECONDS = 1.0
#: Events moved by one script at the most, so that no script holds Redis up.
CHUNK = 200

_MICROSECONDS = 1_000_000
_NOTHING = Heard()
#: What became of a worker, by how its events are taken back.
_LOST = {"dead": "died", "ended": "was ended"}


@dataclass(frozen=True, slots=True)
class Release:
    """A claim check: what a message carries of an event, and the number of the release it belongs to."""

    event_id: str
    run_id: str
    number: int


@dataclass(frozen=True, slots=True)
class Claim:
    """An event claimed by one lane, with what is needed to send it. `remaining_seconds` is the time to the deadline.

    `limits` are those in force, by the name of endpoint or budget; `expected` is what is published of its type's calls.
    """

    release: Release
    worker_id: str
    remaining_seconds: float
    wallet_name: str
    item: bytes
    endpoint: str
    attempt: int
    tries: int
    runs: int
    last_endpoint: str
    limits: Mapping[str, str] = field(default_factory=dict)
    expected: Mapping[Pair, Expected] = field(default_factory=dict)

    @property
    def event_id(self) -> str:
        """The event's id, which is its Idempotency-Key."""
        return self.release.event_id

    @property
    def type(self) -> str:
        """The name of the event's type."""
        return type_of(self.release.event_id)


@dataclass(frozen=True, slots=True)
class Unclaimed:
    """There is nothing to do: the release is `stale`, the event is too `late`, the worker's `revision` is old.

    Or the worker carries another one `alone`, or is kept free for it, and the event is pending again. Or it is itself
    to be carried alone and `waits` until the worker has nothing in hand: it stays released, to be claimed again soon.
    """

    why: str


@dataclass(frozen=True, slots=True)
class _Called:
    """A call that did not settle its event: as what it is `counted`, at which endpoint, how it was answered.

    `failing`: the endpoint failed for the moment.
    """

    counted: str
    endpoint: str
    answer: CallEnd
    heard: Heard
    failing: bool = False


class Ledger:
    """The verbs of the ledger. Every one may be repeated: the second time changes nothing."""

    def __init__(self, client: redis.Redis, keys: Keys, dedupe_seconds: float) -> None:
        self._client = client
        self._keys = keys
        self._quarantine = Quarantine(client, keys)
        self._dedupe_ms = round(dedupe_seconds * 1000)
        self._release = Script("release_events")
        self._claim = Script("claim_event")
        self._complete = Script("complete_event")
        self._return = Script("return_event")
        self._fail = Script("fail_event")
        self._fail_pending = Script("fail_pending")
        self._orphan = Script("orphan_event")
        self._return_release = Script("return_release")
        self._promote = Script("promote_events")
        self._drop = Script("drop_pending")
        self._adopt = Script("adopt_events")

    def release(
        self, token: int, run_id: str, wanted: Mapping[str, Sequence[str]], claim_seconds: float = CLAIM_SECONDS
    ) -> list[Release]:
        """Release the first pending events of each type in `wanted`: one for each endpoint named there, in that order.

        Raises:
            FencedError: the caller's `token` is not the lease's any more.
        """
        with translated(self._client):
            pipeline = self._client.pipeline(transaction=False)
            for name, endpoints in wanted.items():
                pipeline.zrange(self._keys.pending(name), 0, len(endpoints) - 1)
            found = [[one.decode(errors=ESCAPED) for one in ids] for ids in pipeline.execute()]
        calls: list[Call] = []
        for (name, endpoints), ids in zip(wanted.items(), found, strict=True):
            keys = [self._keys.lease, self._keys.current, self._keys.pending(name), self._keys.released(name)]
            args: list[str | int] = [token, run_id, round(claim_seconds * _MICROSECONDS)]
            for event_id, endpoint in zip(ids, endpoints, strict=False):
                keys.append(self._keys.event(event_id))
                args += [event_id, endpoint]
            calls.append((self._release, keys, args))
        numbers = run_many(self._client, calls)
        releases = []
        for name, ids, released in zip(wanted, found, numbers, strict=True):
            for event_id, number in zip(ids, released, strict=False):
                if number > 0:
                    releases.append(Release(event_id, run_id, number))
                elif number < 0:
                    self._condemn(token, run_id, name, event_id)
        return releases

    def _condemn(self, token: int, run_id: str, name: str, event_id: str) -> None:
        """Make a dead letter of a pending event that cannot be sent, for its hash is none or not one of an event."""
        keys, fields = self._keys, self._fields(event_id, "item")
        event, item = keys.event(event_id), fields[0] or b"null"
        wrong = "is not the hash of an event that can be sent"
        self._quarantine.set_aside(token, event, wrong)
        try:
            decode_item(item, len(item))
        except BadItemError as error:
            item, wrong = b"null", f"{wrong} ({error})"
        letter = encode_letter(
            item,
            Reason.BAD_VALUE,
            f"{safe_line(event)} {wrong}",
            failed_at=system_clock.now(),
            run_id=run_id,
            event=event_id,
        )
        names = [keys.lease, event, keys.pending(name), keys.tally(run_id), keys.failed]
        self._fail_pending(self._client, names, [token, event_id, name, self._dedupe_ms, letter])

    def _fields(self, event_id: str, *fields: str) -> list[bytes | None]:
        """Read fields of an event, as if it had none where its key holds no hash."""
        with translated(self._client):
            try:
                return cast("list[bytes | None]", self._client.hmget(self._keys.event(event_id), fields))
            except redis.ResponseError as error:
                if "WRONGTYPE" not in str(error):
                    raise
                return [None] * len(fields)

    @translated()
    def claim(
        self,
        release: Release,
        worker_id: str,
        revision: str,
        *,
        lease_seconds: float,
        expected_seconds: float,
        endpoints: Sequence[str],
        budgets: Sequence[str] = (),
        patient: bool = True,
    ) -> Claim | Unclaimed:
        """Claim a released event for one lane for `lease_seconds`, if a call still fits before the deadline.

        It does where the fastest of the `endpoints` answers in time: by what is published of it, where nothing is by
        `expected_seconds`. The limits in force of `endpoints` and `budgets` come with the claim.

        An event to be carried alone is not `patient` any more once it has waited longer than a call lasts: what the
        worker is still said to have in hand then is nobody's.
        """
        name = type_of(release.event_id)
        keys = self._keys
        reply = self._claim(
            self._client,
            [
                keys.current,
                keys.run(release.run_id),
                keys.event(release.event_id),
                keys.released(name),
                keys.inflight(name),
                keys.pending(name),
                keys.calls(worker_id),
                keys.limits,
                keys.expected,
                keys.alone(worker_id),
            ],
            [
                release.run_id,
                release.number,
                release.event_id,
                worker_id,
                revision,
                round(lease_seconds * _MICROSECONDS),
                round(expected_seconds * _MICROSECONDS),
                round(ANSWER_SLACK_SECONDS * _MICROSECONDS),
                name,
                POISON_DEATHS - 1,
                round(HOLD_SECONDS * _MICROSECONDS) if patient else 0,
                len(endpoints),
                *endpoints,
                *budgets,
            ],
        )
        if reply[0] != b"claimed":
            return Unclaimed(reply[0].decode(errors=ESCAPED))
        _, remaining, wallet, item, endpoint, attempt, tries, runs, last, *told = reply
        published, limits = told[: len(endpoints)], told[len(endpoints) :]
        return Claim(
            release,
            worker_id,
            int(remaining) / _MICROSECONDS,
            wallet.decode(errors=ESCAPED),
            item,
            endpoint.decode(errors=ESCAPED),
            int(attempt),
            int(tries),
            int(runs),
            last.decode(errors=ESCAPED),
            {
                limited: limit.decode(errors=ESCAPED)
                for limited, limit in zip([*endpoints, *budgets], limits, strict=True)
                if limit
            },
            {(name, endpoint): read_expected(one) for endpoint, one in zip(endpoints, published, strict=True) if one},
        )

    def complete(
        self,
        claim: Claim,
        endpoint: str,
        seconds: float,
        text: str = "",
        *,
        waited_seconds: float = 0.0,
        idle_seconds: float = 0.0,
    ) -> bool:
        """Settle an event as completed by `endpoint` in `seconds`; False when the claim was lost meanwhile.

        `waited_seconds` passed from its claim until the call had its slot, `idle_seconds` from its lane's last answer.

        `text` is the answer in words, for the event's trail, as is what was `heard` in the verbs below.
        """
        entry = _entry(claim, endpoint, CallEnd.COMPLETED, Heard(text, seconds))
        return bool(
            self._complete(
                self._client,
                [*self._settle_keys(claim), self._keys.timings(claim.release.run_id)],
                [
                    *self._settle_args(claim),
                    claim.type,
                    endpoint,
                    f"{seconds * 1000:.1f}",
                    self._dedupe_ms,
                    entry,
                    f"{waited_seconds * 1000:.1f}",
                    f"{idle_seconds * 1000:.1f}",
                ],
            )
        )

    def give_back(self, claim: Claim) -> bool:
        """Make an event pending again that was not sent; False when the claim was lost meanwhile."""
        return self._give_back(claim, "pending")

    def unclaim(self, release: Release, worker_id: str) -> bool:
        """Give back what the worker may have claimed, the answer being lost; False when it had not."""
        return self.give_back(Claim(release, worker_id, 0.0, "", b"", "", 0, 0, 0, ""))

    def throttle(self, claim: Claim, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Make an event pending again that `endpoint` throttled: no attempt is spent. False when the claim was lost."""
        return self._give_back(claim, "pending", _Called("throttled", endpoint, CallEnd.THROTTLED, heard))

    def retry(
        self, claim: Claim, endpoint: str, delay_seconds: float, heard: Heard = _NOTHING, *, cut: bool = False
    ) -> bool:
        """Have an event sent again after `delay_seconds`, an attempt being spent.

        `cut`: its call was cut by the run's deadline, which is no failing of the endpoint.
        """
        called = _Called("errors", endpoint, CallEnd.ERROR, heard, failing=not cut)
        return self._give_back(claim, "backoff", called, delay_seconds)

    def spend(self, claim: Claim, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Leave an event to the next run, its attempts of this run being spent."""
        return self._give_back(claim, "spent", _Called("errors", endpoint, CallEnd.ERROR, heard, failing=True))

    def _give_back(self, claim: Claim, where: str, called: _Called | None = None, delay_seconds: float = 0.0) -> bool:
        """Give an event back to `where`, with the call that was made for it, if one was."""
        target = {"pending": self._keys.pending, "backoff": self._keys.backoff, "spent": self._keys.spent}[where]
        return bool(
            self._return(
                self._client,
                [*self._settle_keys(claim), target(claim.type)],
                [
                    *self._settle_args(claim),
                    claim.release.run_id,
                    where,
                    round(delay_seconds * _MICROSECONDS),
                    called.counted if called else "",
                    called.endpoint if called else "",
                    claim.type if called and called.failing else "",
                    _entry(claim, called.endpoint, called.answer, called.heard) if called else b"",
                    called.heard.kind if called else "",
                ],
            )
        )

    def fail(self, claim: Claim, reason: Reason, detail: str, endpoint: str, heard: Heard = _NOTHING) -> bool:
        """Settle an event as failed: it becomes a dead letter. False when the claim was lost meanwhile."""
        letter = encode_letter(
            claim.item,
            reason,
            detail,
            failed_at=system_clock.now(),
            run_id=claim.release.run_id,
            event=claim.event_id,
            endpoint=endpoint,
        )
        return bool(
            self._fail(
                self._client,
                [*self._settle_keys(claim), self._keys.failed],
                [
                    *self._settle_args(claim),
                    claim.type,
                    endpoint,
                    int(reason is Reason.ATTEMPTS_SPENT),
                    self._dedupe_ms,
                    letter,
                    _entry(claim, endpoint, CallEnd.REJECTED if reason is Reason.REJECTED else CallEnd.ERROR, heard),
                    heard.kind,
                ],
            )
        )

    def fail_unknown(self, token: int, run_id: str, type_name: str, goes_on: Callable[[], bool] = lambda: True) -> int:
        """Make dead letters of the pending events of a type that is no longer configured; return how many.

        There may be very many: after each chunk it is asked whether it `goes_on`.

        Raises:
            FencedError: the caller's `token` is not the lease's any more.
        """
        failed, keys = 0, self._keys
        while ids := self._first(keys.pending(type_name)):
            with translated(self._client):
                pipeline = self._client.pipeline(transaction=False)
                for event_id in ids:
                    pipeline.hget(keys.event(event_id), "item")
                items = pipeline.execute()
            calls: list[Call] = []
            for event_id, item in zip(ids, items, strict=True):
                letter = encode_letter(
                    item or b"null",
                    Reason.UNKNOWN_TYPE,
                    f"{type_name!r} is no longer a configured type",
                    failed_at=system_clock.now(),
                    run_id=run_id,
                    event=event_id,
                )
                names = [keys.lease, keys.event(event_id), keys.pending(type_name), keys.tally(run_id), keys.failed]
                calls.append((self._fail_pending, names, [token, event_id, type_name, self._dedupe_ms, letter]))
            failed += sum(run_many(self._client, calls))
            if not goes_on():
                break
        return failed

    def drop(self, event_ids: Sequence[str]) -> tuple[int, bool]:
        """Remove events for good that are left over, and forget them.

        Returns how many, and whether a run is open: then nothing is left over, but that run's.
        """
        keys = self._keys
        calls: list[Call] = []
        for event_id in event_ids:
            name = type_of(event_id)
            names = [keys.current, keys.event(event_id), keys.pending(name), keys.runs, keys.dropped]
            calls.append((self._drop, names, [event_id, name]))
        replies = run_many(self._client, calls)
        return replies.count(1), -1 in replies

    def void_fetched(self, releases: Iterable[Release]) -> int:
        """Make released events pending again whose messages a worker had fetched when it died; return how many."""
        by_type: dict[str, list[Release]] = {}
        for release in releases:
            by_type.setdefault(type_of(release.event_id), []).append(release)
        return sum(
            self._void(name, "dead", [(one.event_id, str(one.number)) for one in fetched])
            for name, fetched in by_type.items()
        )

    def void_unclaimed(self, types: Iterable[str], now_us: int) -> int:
        """Make released events pending again that nobody claimed in time; return how many."""
        returned = 0
        for name in types:
            if ids := self._due(self._keys.released(name), now_us):
                returned += self._void(name, "expired", [(one, "") for one in ids])
        return returned

    def _void(self, type_name: str, when: str, events: Sequence[tuple[str, str]]) -> int:
        keys = [self._keys.released(type_name), self._keys.pending(type_name)]
        args = [when]
        for event_id, number in events:
            keys.append(self._keys.event(event_id))
            args += [event_id, number]
        return int(self._return_release(self._client, keys, args))

    def promote(self, types: Iterable[str], now_us: int) -> int:
        """Make events pending again whose back-off is over; return how many."""
        promoted = 0
        for name in types:
            if ids := self._due(self._keys.backoff(name), now_us):
                keys = [self._keys.backoff(name), self._keys.pending(name), *map(self._keys.event, ids)]
                promoted += int(self._promote(self._client, keys, ids))
        return promoted

    @translated()
    def orphan_worker(self, worker_id: str, *, died: bool = True) -> int:
        """Take back everything a dead worker had claimed; its slots stay blocked from now. Return how many events.

        No death is counted where it has not `died` of anything it had, but was ended because all were to end at once.
        """
        when = "dead" if died else "ended"
        with translated(self._client):
            calls = cast("dict[bytes, bytes]", self._client.hgetall(self._keys.calls(worker_id)))
        return sum(
            self._take_back(event_id.decode(errors=ESCAPED), worker_id, call.decode(errors=ESCAPED), when)
            for event_id, call in calls.items()
        )

    def orphan_expired(self, types: Iterable[str], now_us: int, *, closing: bool = False) -> int:
        """Take back the events whose leases have run out, a frozen or lost worker's; return how many.

        When a run is `closing` no death is counted: it is Redis that was away, past the lease and the deadline.
        """
        taken = 0
        for name in types:
            for event_id in self._due(self._keys.inflight(name), now_us, since=-now_us):
                owner = self._fields(event_id, "owner")[0] or b""
                with translated(self._client):
                    call = (
                        cast(
                            "bytes | None", self._client.hget(self._keys.calls(owner.decode(errors=ESCAPED)), event_id)
                        )
                        or b""
                    )
                taken += self._take_back(
                    event_id,
                    owner.decode(errors=ESCAPED),
                    call.decode(errors=ESCAPED),
                    "closing" if closing else "expired",
                )
        return taken

    @translated()
    def _take_back(self, event_id: str, worker_id: str, call: str, when: str) -> int:
        window_id, stamp, endpoint, *budget = (
            call.split("|") if call and is_note(call.encode(errors=ESCAPED)) else ("", "", "")
        )
        name, keys = type_of(event_id), self._keys
        with translated(self._client):
            run_id = self._client.get(keys.current)
        item, attempt = self._fields(event_id, "item", "attempt")
        run = cast("bytes", run_id or b"").decode(errors=ESCAPED)
        heard = Heard(f"nobody knows: its worker {_LOST.get(when, 'froze, or lost Redis')}")
        letter = encode_letter(
            item or b"null",
            Reason.POISON,
            f"{POISON_DEATHS} workers died or froze while they had it",
            failed_at=system_clock.now(),
            run_id=run or None,
            event=event_id,
            **({"endpoint": endpoint} if endpoint else {}),
        )
        return bool(
            self._orphan(
                self._client,
                [
                    keys.event(event_id),
                    keys.inflight(name),
                    keys.pending(name),
                    keys.calls(worker_id),
                    keys.tally(run),
                    keys.failed,
                    *(spell(one) for one in (window_id, *budget) for spell in (keys.window, keys.moved)),
                ],
                [
                    event_id,
                    worker_id,
                    call,
                    stamp,
                    endpoint,
                    when,
                    name,
                    self._dedupe_ms,
                    POISON_DEATHS,
                    letter,
                    trail.encode(run, _whole(attempt) + 1, endpoint, CallEnd.UNKNOWN, heard, worker_id),
                    KEEP_SECONDS * 1000,
                ],
            )
        )

    def adopt(self, token: int, type_name: str, target: str) -> int:
        """Find the unsettled events of a type again that are in none of its zsets, and put them into `target`.

        Raises FencedError for a `token` that is not the lease's.
        """
        keys = self._keys
        with translated(self._client):
            found = names_of(self._client, keys.event(f"*:{type_name}"))
        zsets = [keys.pending(type_name), *keys.holders(type_name), keys.retried(type_name)]
        ids = [one.removeprefix(keys.event("")) for one in found]
        chunks = [ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK)]
        calls: list[Call] = [
            (self._adopt, [keys.lease, target, *zsets, *map(keys.event, chunk)], [token, *chunk]) for chunk in chunks
        ]
        return sum(run_many(self._client, calls))

    def find_types(self) -> None:
        """Find the types again that have events in the ledger, where their names were lost."""
        keys = self._keys
        with translated(self._client):
            zsets = [keys.pending, keys.backoff, keys.spent, keys.released, keys.inflight, keys.retried]
            found = {type_of(one) for spell in zsets for one in names_of(self._client, spell("*"))}
            if found:
                self._client.sadd(keys.types, *found)

    def types(self) -> list[str]:
        """Name the types that have or had events in the ledger; what cannot be the name of one is passed over."""
        with translated(self._client):
            found = cast("set[bytes]", self._client.smembers(self._keys.types))
        return sorted(one.decode() for one in found if is_type_name(one))

    def count(self, types: Sequence[str]) -> dict[str, Counts]:
        """Count the events of each type by where they are, all at one instant."""
        with translated(self._client):
            pipeline = self._client.pipeline(transaction=True)
            self.ask_counts(pipeline, types)
            return self.read_counts(pipeline.execute(), types)

    def ask_counts(self, pipeline: Pipeline, types: Sequence[str]) -> None:
        """Add to a pipeline the commands whose replies `read_counts` reads."""
        for name in types:
            for key in (self._keys.pending(name), *self._keys.holders(name)):
                pipeline.zcard(key)
            pipeline.zcount(self._keys.inflight(name), "-inf", 0)

    def read_counts(self, replies: Sequence[int], types: Sequence[str]) -> dict[str, Counts]:
        """Read what the commands of `ask_counts` replied."""
        return {name: Counts(*replies[6 * index : 6 * index + 6]) for index, name in enumerate(types)}

    def count_retried(self, types: Sequence[str]) -> dict[str, int]:
        """Count the events of each type that enter the next run because a dead letter was retried."""
        with translated(self._client):
            pipeline = self._client.pipeline(transaction=True)
            for name in types:
                pipeline.zcard(self._keys.retried(name))
            return dict(zip(types, pipeline.execute(), strict=True))

    def _settle_keys(self, claim: Claim) -> list[str]:
        return [
            self._keys.event(claim.event_id),
            self._keys.inflight(claim.type),
            self._keys.calls(claim.worker_id),
            self._keys.tally(claim.release.run_id),
        ]

    def _settle_args(self, claim: Claim) -> list[str | int | bytes]:
        return [claim.event_id, claim.worker_id, claim.release.number]

    def _first(self, zset: str) -> list[str]:
        with translated(self._client):
            return [one.decode(errors=ESCAPED) for one in cast("list[bytes]", self._client.zrange(zset, 0, CHUNK - 1))]

    def _due(self, zset: str, now_us: int, since: int = 0) -> list[str]:
        with translated(self._client):
            found = self._client.zrangebyscore(zset, since, now_us, start=0, num=CHUNK)
        return [one.decode(errors=ESCAPED) for one in cast("list[bytes]", found)]


def _whole(raw: bytes | None) -> int:
    return int(raw) if raw and raw.isdigit() else 0


def _entry(claim: Claim, endpoint: str, answer: CallEnd, heard: Heard) -> bytes:
    """Write the entry that a call leaves in its event's trail."""
    return trail.encode(claim.release.run_id, claim.attempt + 1, endpoint, answer, heard, claim.worker_id)
