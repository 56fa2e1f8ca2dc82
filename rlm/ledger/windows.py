"""The windows of endpoints and budgets: taking, giving back, blocking and reading their slots."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, cast

from rlm.core.endpoint import PROBE_SLACK_SECONDS, Endpoint, Limit, Limited, all_limited
from rlm.core.window import WindowState
from rlm.ledger.claims import KEEP_SECONDS, Admitted, Call, Refused, call_keys, write_note
from rlm.ledger.connect import SERVER_ID, text, translating
from rlm.ledger.scripts import Command, Part, ScriptReply
from rlm.ledger.values import MICROSECONDS, reading, whole

if TYPE_CHECKING:
    from rlm.ledger.front import StoreFront

#: How many slots are remembered, the newest, that count from later than their calls were sent.
MOST_MOVED = 100_000
#: How many windows are read at one instant, during which nobody else is served.
_AT_ONCE = 100


class Slot(ScriptReply, frozen=True):
    """What `acquire_slot` answers: the stamp of a slot, or microseconds until there is one, -1 for never."""

    stamp: str = ""
    suspect: bool = False
    wait_us: int = 0


class WindowLooks(ScriptReply, frozen=True):
    """What `look_windows` sees at one instant, microseconds of Redis time: the names and values of each window."""

    now_us: int
    windows: list[Any]


class WindowLook(ScriptReply, frozen=True):
    """One window of a `WindowLooks`, times in microseconds from then on."""

    free: int
    wait_us: int
    rest_us: int
    suspect: bool
    held_us: int
    paused_us: int

    def state(self) -> WindowState:
        """Return it in seconds."""
        spans = (us / MICROSECONDS for us in (self.wait_us, self.rest_us, self.held_us, self.paused_us))
        wait, rest, held, paused = spans
        return WindowState(self.free, wait, rest, self.suspect, held, paused)


def rules_of(limit: Limit, guard_seconds: float) -> list[tuple[int, int]]:
    """Return the rules of a limit as scripts read them: calls, and period and guard in microseconds."""
    return [(rule.amount, round((rule.seconds + guard_seconds) * MICROSECONDS)) for rule in limit.rules]


class Windows(Part):
    """The windows of all endpoints and budgets. A call takes a slot in both, or in neither."""

    def __init__(self, store: StoreFront, guard_seconds: float | None = None) -> None:
        """Use the guard of the settings, or `guard_seconds` if given."""
        super().__init__(store)
        self._guard_seconds = store.settings.run.guard_seconds if guard_seconds is None else guard_seconds

    def acquire(self, endpoint: Endpoint, call: Call | None = None, *, cost: int = 1) -> Admitted | Refused:
        """Take `cost` slots of `endpoint`, and of its budget, for `call`, if both have them.

        If another limit than that of `endpoint` is in force, the call is refused, to be asked again at once.

        Raises:
            StoreError: Redis did not answer; do not assume that a slot was taken.
        """
        keys, limited = self._keys, all_limited([endpoint])
        reply = self._run(
            "acquire_slot",
            **call_keys(keys, call),
            epoch=keys.epoch,
            limits=keys.limits,
            cost=cost,
            keep_us=KEEP_SECONDS * MICROSECONDS,
            probe_us=round((endpoint.timeout_seconds + PROBE_SLACK_SECONDS) * MICROSECONDS),
            event_id=call.event_id if call else "",
            note=write_note(call.lane, call.endpoint, [each.window_id for each in limited]) if call else "",
            windows=[
                {
                    "window": keys.window(each.window_id),
                    "health": keys.health(each.window_id),
                    "name": each.name,
                    "limit": each.limit.text,
                    "rules": rules_of(each.limit, self._guard_seconds),
                }
                for each in limited
            ],
            server=SERVER_ID,
        )
        slot = Slot.read(reply)
        if slot.stamp:
            return Admitted(slot.stamp, suspect=slot.suspect)
        return Refused(None if slot.wait_us < 0 else slot.wait_us / MICROSECONDS)

    def give_back(self, endpoint: Endpoint, slot: Admitted, call: Call | None = None) -> None:
        """Give back a slot for which no call was sent."""
        self._move(endpoint, slot, call)

    def block(
        self,
        endpoint: Endpoint,
        slot: Admitted,
        call: Call | None = None,
        *,
        ago_seconds: float = 0.0,
        left_late: bool = False,
    ) -> Admitted:
        """Block a slot for a period from now, for a call without an answer; return the moved slot.

        If a call may have been read later than its guard allows, block from `ago_seconds` before now, or from when the
        slot was taken if that is later. `left_late`: the call was sent only now.
        """
        limited = list(all_limited([endpoint]))
        window_ids = [each.window_id for each in limited]
        note = write_note(call.lane, endpoint.name, window_ids) if call else "%s"  # not empty: it is moved
        shortest_seconds = min(rule.seconds for each in limited for rule in each.limit.rules)
        shortest_us = None if left_late else round(shortest_seconds * MICROSECONDS)
        ago_us = round(max(0.0, ago_seconds) * MICROSECONDS)
        stamp = self._move(endpoint, slot, call, note=note, ago_us=ago_us, shortest_us=shortest_us)
        return Admitted(stamp, suspect=slot.suspect)

    def _move(
        self,
        endpoint: Endpoint,
        slot: Admitted,
        call: Call | None,
        *,
        note: str = "",
        ago_us: int = 0,
        shortest_us: int | None = None,
    ) -> str:
        """Move a slot; without a `note`, give it back."""
        keys = self._keys
        windows = [
            {
                "window": keys.window(limited.window_id),
                "moved": keys.moved(limited.window_id),
                "kept_ms": round(1000 * max(KEEP_SECONDS, limited.limit.longest_seconds + self._guard_seconds)),
            }
            for limited in all_limited([endpoint])
        ]
        new_stamp = self._run(
            "return_slot",
            **call_keys(keys, call),
            health=keys.health(endpoint.window_id),
            stamp=slot.stamp,
            event_id=call.event_id if call else "",
            note=note,
            ago_us=ago_us,
            shortest_us=shortest_us,
            most=MOST_MOVED,
            windows=windows,
        )
        return text(new_stamp)

    def join_budgets(self, token: int, endpoints: Iterable[Endpoint]) -> None:
        """Count the earlier calls of endpoints on their budgets, each once, when an endpoint names a new budget.

        A budget with a rule longer than calls are kept rests until enough time has passed.
        """
        keys, calls = self._keys, []
        counted = self._hgetall(keys.budgets)
        for endpoint in endpoints:
            window_id, budget = endpoint.window_id, endpoint.budget
            budget_id = budget.window_id if budget else ""
            if text(counted.get(window_id.encode(), b"")) != budget_id:
                longest = budget.limit.longest_seconds + self._guard_seconds if budget else 0
                calls.append(
                    {
                        "lease": keys.lease,
                        "budgets": keys.budgets,
                        "window": keys.window(window_id),
                        "health": keys.health(window_id),
                        "shared": keys.window(budget_id),
                        "account": keys.health(budget_id),
                        "token": token,
                        "endpoint": window_id,
                        "budget": budget_id,
                        "keep_ms": round(1000 * max(KEEP_SECONDS, longest)),
                    }
                )
        self._run_each("join_budget", calls)

    def look(self, limited: Sequence[Limited]) -> tuple[int, dict[str, WindowState]]:
        """WindowLooks at several windows at one instant: the time of Redis in microseconds, and each window by name."""
        windows = [
            {
                "window": self._keys.window(each.window_id),
                "health": self._keys.health(each.window_id),
                "rules": rules_of(each.limit, self._guard_seconds),
            }
            for each in limited
        ]
        keep_us = KEEP_SECONDS * MICROSECONDS
        look = WindowLooks.read(self._run("look_windows", epoch=self._keys.epoch, keep_us=keep_us, windows=windows))
        states = map(WindowLook.read, look.windows)
        return look.now_us, {each.name: state.state() for each, state in zip(limited, states, strict=True)}

    def ages(self, limited: Sequence[Limited], now_us: int) -> dict[str, tuple[float, ...]]:
        """Return by name the ages of the slots that still count for a rule, seconds, newest first."""
        return self.read_ages(self._batch(self.age_commands(limited)), limited, now_us)

    def age_commands(self, limited: Sequence[Limited]) -> list[Command]:
        """Return the commands whose replies `read_ages` reads."""
        amounts = [max(rule.amount for rule in one.limit.rules) for one in limited]
        keys = [self._keys.window(one.window_id) for one in limited]
        return [("LRANGE", key, 0, amount - 1) for key, amount in zip(keys, amounts, strict=True)]

    @translating
    def read_ages(
        self, replies: Sequence[list[bytes]], limited: Sequence[Limited], now_us: int
    ) -> dict[str, tuple[float, ...]]:
        """Read the replies to the commands of `age_commands`."""
        ages = {}
        for one, slots in zip(limited, replies, strict=True):
            span = one.limit.longest_seconds + self._guard_seconds
            taken = ((now_us - reading(whole, slot, one.name, 0)) / MICROSECONDS for slot in slots)
            ages[one.name] = tuple(max(0.0, age) for age in taken if age < span)
        return ages

    def used(self, limited: Sequence[Limited]) -> dict[str, list[int]]:
        """Return by name the slots taken within each rule's period, without the guard, all at one instant."""
        counts = iter(self.count([(one, [rule.seconds for rule in one.limit.rules]) for one in limited]))
        return {one.name: [next(counts) for _ in one.limit.rules] for one in limited}

    def count(self, asked: Sequence[tuple[Limited, Sequence[float]]]) -> list[int]:
        """Return the slots taken within each of these spans (seconds), for each window, in that order.

        The cost does not grow with the number of slots.
        """
        windows = [
            {
                "window": self._keys.window(limited.window_id),
                "spans": [round(seconds * MICROSECONDS) for seconds in spans],
            }
            for limited, spans in asked
        ]
        return cast("list[int]", self._run("count_slots", windows=windows))

    @translating
    def stamps(self, limited: Limited, number: int) -> list[int]:
        """Return the stamps of the newest `number` slots, microseconds of Redis time, newest first."""
        return list(map(int, self._ask("LRANGE", self._keys.window(limited.window_id), 0, max(0, number - 1))))

    def sent(self, limited: Limited, number: int) -> list[int]:
        """Return when the calls of the newest `number` slots were sent, like `sent_each`."""
        return self.sent_each([(limited, number)])[0]

    @translating
    def sent_each(self, wanted: Sequence[tuple[Limited, int]]) -> list[list[int]]:
        """Return for each window when the calls of its newest slots were sent (Redis time, microseconds), oldest first.

        That is when their slots were taken, even if a slot counts from later. Many are read in one round trip.
        """
        found: list[list[int]] = []
        for start in range(0, len(wanted), _AT_ONCE):
            part = wanted[start : start + _AT_ONCE]
            lists = (
                (key(one.window_id), number) for one, number in part for key in (self._keys.window, self._keys.moved)
            )
            replies = self._batch((("LRANGE", key, 0, max(0, number - 1)) for key, number in lists), transaction=True)
            found += map(_when_sent, replies[::2], replies[1::2])
        return found


def _when_sent(slots: Iterable[bytes], moved: Iterable[bytes]) -> list[int]:
    """Return when calls were sent, from the `slots` and from those that were `moved` to a later moment."""
    found = Counter(map(int, slots))
    for stamp, sent in (map(int, one.split()) for one in moved):  # newest first, because slots may move repeatedly
        if found[stamp]:
            found[stamp] -= 1
            found[sent] += 1
    return sorted(found.elements())
