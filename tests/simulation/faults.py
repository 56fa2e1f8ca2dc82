"""The faults of a seed, and when they happen: everything that goes wrong in a simulation is decided here."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from random import Random

#: Possible faults of one command of a client, or one batch, and the weight of each if a seed has it.
COMMAND_FAULTS = ("command lost", "reply lost", "command late", "command slow", "reply slow", "batch cut")
#: The share of seeds with only two kinds of faults, but these often.
FOCUSED = 0.25
#: By how much a rare command is hit more often than one of average frequency.
MOST_RARE = 10.0
#: Possible faults of a process, at one of its next calls to Redis.
PROCESS_FAULTS = (
    "scheduler killed",
    "scheduler frozen",
    "worker killed",
    "worker frozen",
    "supervisor killed",
    "supervisor frozen",
)
#: Possible faults of the installation as a whole.
SYSTEM_FAULTS = (
    "redis away",
    "redis restarted",
    "run cancelled",
    "run asked for",
    "limit lowered",
    "endpoint paused",
    "endpoint down",
)
#: Possible faults of a message or a wake-up.
MESSAGE_FAULTS = ("message lost", "message doubled", "message late", "wake-up lost")
#: Bad answers of the API.
API_FAULTS = ("429", "503", "500", "400", "hang", "late answer", "reset", "cut", "unsent", "refuse", "nobody")
#: Possible steps of a clock.
CLOCK_FAULTS = ("clock of redis forward", "clock of redis back")
#: Faults that no seed has by itself: they are tested alone.
HOST_FAULTS = ("hosts forward", "hosts back")
STOP_FAULTS = ("schedulers stopped",)


@dataclass(slots=True)
class Answer:
    """The API's reaction to one call: `status` None for no answer, `seconds` from when it was read."""

    status: int | None
    seconds: float
    headers: dict[str, str] = field(default_factory=dict)
    unsent: bool = False
    cut: bool = False
    breaks: bool = False
    kills: bool = False


class Faults:
    """The faults of one seed. Once `healed` there are none."""

    def __init__(self, rng: Random, *, focus: Sequence[str] = ()) -> None:
        """Choose the kinds of faults; with a `focus` only those of processes and the system, and often."""
        self.rng = rng
        self.counts: Counter[str] = Counter()
        self.healed = False
        some = rng.random()
        kinds = (*PROCESS_FAULTS, *SYSTEM_FAULTS, *CLOCK_FAULTS)
        self.system = list(focus) or [kind for kind in kinds if rng.random() < some]
        if not focus and rng.random() < FOCUSED:
            focus = self.system = rng.sample(kinds, 2)
        #: How likely each of these kinds is in a window.
        self.system_rate = 0.8 if focus else 0.3
        rate = rng.choice((0.001, 0.004, 0.015))
        self._commands = [kind for kind in COMMAND_FAULTS if rng.random() < some]
        self._command_rate = rate if self._commands and not focus else 0.0
        self._messages = {kind: rng.choice((0.02, 0.1)) for kind in MESSAGE_FAULTS if rng.random() < some}
        self._api = [kind for kind in API_FAULTS if rng.random() < some]
        self._api_rate = rng.choice((0.02, 0.08, 0.25)) if self._api else 0.0
        self._slow_answers = rng.choice((1.0, 1.0, 2.5))
        self._asked: Counter[bytes] = Counter()
        self.poison = rng.random() < 0.1 * some
        self.down: set[str] = set()

    def count(self, kind: str) -> None:
        self.counts[kind] += 1

    def command(self, name: bytes) -> str:
        """Return the fault of a command, '' for none. Rare commands are hit as often as frequent ones."""
        self._asked[name] += 1
        rarity = self._asked.total() / (len(self._asked) * self._asked[name])
        if self.healed or self.rng.random() >= self._command_rate * min(MOST_RARE, rarity):
            return ""
        kind = self.rng.choice(self._commands)
        self.count(kind)
        return kind

    def message(self) -> str:
        """Return the fault of a message on its way to a lane, '' for none."""
        return self._strikes("message lost", "message doubled", "message late")

    def loses_wake_up(self) -> bool:
        return bool(self._strikes("wake-up lost"))

    def _strikes(self, *kinds: str) -> str:
        if not self.healed:
            for kind in kinds:
                if kind in self._messages and self.rng.random() < self._messages[kind]:
                    self.count(kind)
                    return kind
        return ""

    def connecting(self, endpoint: str) -> str:
        """Return the fault of opening a connection."""
        if endpoint in self.down:
            return "refuse"
        kind = self._api_fault()
        if kind in ("refuse", "nobody"):
            self.count(kind)
            return kind
        return ""

    def answer(self, endpoint: str, event_id: str) -> Answer:
        """Return the answer to one call."""
        rng = self.rng
        seconds = rng.uniform(0.03, 0.15) * self._slow_answers
        if self.healed:
            return Answer(200, rng.uniform(0.03, 0.15))
        if self.poison and ":poison" in f":{event_id}":
            self.count("poison")
            return Answer(None, 0.0, kills=True)
        kind = self._api_fault()
        if not kind or kind in ("refuse", "nobody"):
            return Answer(200, seconds)
        self.count(kind)
        return self._amiss(kind, seconds)

    def _amiss(self, kind: str, seconds: float) -> Answer:
        rng = self.rng
        waits: list[dict[str, str]] = [{}, {"retry-after": "0"}, {"retry-after": "0.3"}, {"retry-after": "1"}]
        answers = {
            "429": Answer(429, seconds, rng.choice(waits)),
            "503": Answer(503, seconds, rng.choice(waits)),
            "500": Answer(500, seconds),
            "400": Answer(400, seconds),
            "hang": Answer(None, 0.0),
            "late answer": Answer(200, rng.uniform(0.3, 1.2)),
            "reset": Answer(200, seconds, breaks=True),
            "cut": Answer(None, 0.0, cut=True),
            "unsent": Answer(None, 0.0, unsent=True),
        }
        return answers[kind]

    def _api_fault(self) -> str:
        if self.healed or self.rng.random() >= self._api_rate:
            return ""
        return self.rng.choice(self._api)
