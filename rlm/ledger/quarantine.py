"""What is set aside: keys with invalid content.

Invalid content is never deleted; its key is renamed and entered in a register, the quarantine.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from rlm.core.alarms import Alarm, alarm
from rlm.core.clock import system_clock
from rlm.core.text import safe_line
from rlm.ledger.scripts import Argument, Part

if TYPE_CHECKING:
    pass

log = logging.getLogger(__name__)


class Aside(msgspec.Struct, frozen=True):
    """What was set aside: the `key`, what was `wrong`, `at` (seconds since 1970), and `where` it is now."""

    key: str
    wrong: str
    at: float
    where: str = ""


class Successor(msgspec.Struct, frozen=True):
    """What is written when a key is set aside: the fields of a hash; a value `+N` means N microseconds from now.

    The hash is `epoch`, `limits`, `limits_filed`, or the `health` of the window `window_id`.
    """

    family: str
    fields: Mapping[str, str | int]
    window_id: str = ""


class Quarantine(Part):
    """Sets keys aside under the lease, and lists them. What was set aside stays until somebody deletes it."""

    def set_aside(
        self,
        token: int,
        key: str,
        wrong: str,
        *,
        kind: str = "",
        entries: Sequence[bytes] = (),
        then: Successor | None = None,
    ) -> bool:
        """Set a key aside, or only the `entries` of a key of type `kind`; return False if it is gone.

        `then` is written in the same step.
        """
        note, where = self.note(key, wrong)
        fields: list[Argument] = []
        successor: Any = self._keys.quarantine
        if then:
            fields = [part for field in then.fields.items() for part in field]
            spelled = getattr(self._keys, then.family)
            successor = spelled(then.window_id) if callable(spelled) else spelled
        keys = [self._keys.lease, self._keys.quarantine, key, where, successor]
        args: list[Argument] = [token, kind if entries else "", note, len(fields) // 2, *fields, *entries]
        done = bool(self._run("set_aside", keys, args))
        if done:
            self.tell(key, wrong, where)
        return done

    def note(self, key: str, wrong: str) -> tuple[bytes, str]:
        """Return the register entry for a key to be set aside, and the new name of the key."""
        now = system_clock.now()
        return msgspec.json.encode(Aside(safe_line(key), safe_line(wrong), now)), self._keys.set_aside(key, now)

    @staticmethod
    def tell(key: str, wrong: str, where: str) -> None:
        """Raise the alarm."""
        told = "%s was set aside, because it %s; what it held is in %s"
        extra = alarm(Alarm.KEY_SET_ASIDE, "set_aside")
        log.error(told, safe_line(key), safe_line(wrong), safe_line(where), extra=extra)

    def all(self) -> list[Aside]:
        """Return what was set aside and still exists, newest first; deleted keys are not listed."""
        found = self._hgetall(self._keys.quarantine)
        there = self._batch(("EXISTS", where) for where in found)
        asides = [_read(where, raw) for (where, raw), is_there in zip(found.items(), there, strict=True) if is_there]
        return sorted(asides, key=lambda one: one.at, reverse=True)


def _read(where: bytes, raw: bytes) -> Aside:
    name = where.decode(errors="backslashreplace")
    try:
        return msgspec.structs.replace(msgspec.json.decode(raw, type=Aside), where=name)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Aside(name, "was set aside", 0.0, name)
