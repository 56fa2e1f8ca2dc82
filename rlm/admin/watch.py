"""Says in the log when a condition begins and when it ends, once each, whichever process looks.

A condition counts as begun or ended if two looks in a row agree, so that what passes in a moment is no alarm. What was
said is noted in Redis: a successor neither repeats it nor forgets to say that it is over. `rlm.telemetry.sentry` makes
an issue of each line of level ERROR.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import suppress

from rlm.admin.conditions import KINDS, conditions, is_grave, name_of
from rlm.core.clock import system_clock
from rlm.core.documents import Condition
from rlm.core.errors import StoreError
from rlm.ledger.store import Store

#: Seconds between two looks, and after one that saw a change.
LOOK_SECONDS, AGAIN_SECONDS = 4.0, 1.0
#: Every so many looks, or while there is trouble with it, one is whole: it takes a command or two a key.
WHOLE_LOOKS = 8
_WHOLE = ("key_damaged", "redis_doubted", "endpoint_", "no_endpoint", "host_cut_off")
#: Processes that start together, or while Redis takes no entries, are not missed for so many seconds.
STARTING_SECONDS = 10.0
_MISSED = ("no_scheduler", "no_supervisor", "no_worker", "workers_missing", "host_silent")

#: What is not noted, for Redis takes no note then.
_AWAY = "redis_away redis"

log = logging.getLogger(__name__)


class Watch:
    """Looks again and again at what is not well, and says what changes, as long as it is this process's part."""

    def __init__(self, store: Store, is_mine: Callable[[], bool]) -> None:
        """Watch `store`; `is_mine` returns whether to speak. While Redis is away, whoever spoke last goes on."""
        self._store = store
        self._is_mine = is_mine
        self._up_at = system_clock.monotonic()
        self._begun: dict[str, float] | None = None  #: what was said, and since when it lasts; None if others speak
        self._before: dict[str, Condition] = {}
        self._looks, self._has_changed = 0, False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin to look, in a thread."""
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stopped.wait(AGAIN_SECONDS if self._has_changed else LOOK_SECONDS):
            with suppress(StoreError):  # it went away within the look
                self.look()

    def look(self) -> None:
        """Look once; say what has begun or ended by this look and the one before."""
        store, recorded = self._store, dict[str, float]()
        is_mine, away = self._begun is not None, False
        try:
            with store.guarded():
                if is_mine := self._is_mine():
                    recorded = store.notes.begun()
        except StoreError:
            away = True
        if not is_mine:
            self._begun, self._before = None, {}
            return
        said = self._begun = {**recorded} if self._begun is None else self._begun
        whole = self._looks % WHOLE_LOOKS == 0 or any(name.startswith(_WHOLE) for name in {*said, *self._before})
        self._looks += 1
        passed_over = _MISSED if system_clock.monotonic() < self._up_at + STARTING_SECONDS else ()
        now = {
            name_of(each): each
            for each in conditions(store, whole=whole)
            if each.severity != "info" and each.code not in passed_over
        }
        if any(name.startswith("redis_") and is_grave(each) for name, each in now.items()):  # nobody announces itself
            self._up_at = system_clock.monotonic()
        if _AWAY in now:  # nothing else is known
            away = True
            now = {name: each for name, each in self._before.items() if name != _AWAY} | now
        begun = [name for name in now if name in self._before and name not in said]
        ended = [name for name in said if name not in now and name not in self._before]
        for name in begun:
            extra = {**_facts(name, "begin_condition"), "headline": KINDS[now[name].code].meaning}
            level = logging.ERROR if now[name].severity == "error" else logging.WARNING
            log.log(level, "%s: %s", now[name].sentence, now[name].remedy, extra=extra)
            said[name] = store.clock.now()
        for name in ended:
            log.info("It is over: %s", name, extra=_facts(name, "end_condition"))
            del said[name]
        self._has_changed = self._before.keys() != now.keys()
        self._before = now
        if not away:
            with suppress(StoreError):  # one that refuses writes; what was said is known here
                new = {name: at for name, at in said.items() if name not in recorded and name != _AWAY}
                if new or recorded.keys() - said.keys():
                    store.notes.note(new, recorded.keys() - said.keys())


def _facts(name: str, action: str) -> dict[str, str]:
    code, _, subject = name.partition(" ")
    return {"action": action, "condition": code, "subject": subject}
