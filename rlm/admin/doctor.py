"""What `rlm doctor` shows: each check of the conditions, with what it found, or that it found nothing."""

from __future__ import annotations

from typing import Final

from rlm.admin.conditions import away, examined, worst_first
from rlm.core.documents import Condition, JsonDocument
from rlm.core.errors import StoreError
from rlm.ledger.store import Store
from rlm.settings import Settings

#: What a check has made sure of if it finds nothing.
_WELL: Final = {
    "redis": "it answers, takes writes and keeps them",
    "clock": "Redis is near, and agrees with this host",
    "keys": "each has its type",
    "configuration": "all processes have that of the scheduler",
    "scheduler": "one leads",
    "workers": "there is who starts them, and as many as are wanted are ready or coming up",
    "hosts": "all are heard from, and reach the endpoints",
    "run": "none stands still, and the last one was in order",
    "endpoints": "each is called as its limit allows",
    "books": "they balance, and dead letters are few",
}


class Checked(JsonDocument, frozen=True, kw_only=True):
    """What a check found: a condition, or that all is well (`code` and `severity` are null)."""

    name: str
    ok: bool
    code: str | None
    severity: str | None
    message: str
    remedy: str


class Examination(JsonDocument, frozen=True, kw_only=True):
    """What `rlm doctor` prints; `ok` unless a condition is an error."""

    ok: bool
    conditions: tuple[Condition, ...]
    findings: tuple[Checked, ...]


def examine(settings: Settings, *, allow_volatile: bool) -> Examination:
    """Make all checks. Without a scheduler, a Redis that keeps no file is unfit unless `allow_volatile`."""
    try:
        with Store(settings) as store:
            found = examined(store, insists=not allow_volatile)
    except StoreError as error:
        found = {"redis": [away(error, settings)]}
    conditions = worst_first(each for of_check in found.values() for each in of_check)
    findings = [_bad(name, each) for name, of_check in found.items() for each in of_check]
    findings += [_good(name, words) for name, words in _WELL.items() if found.get(name) == []]
    is_well = not any(each.severity == "error" for each in conditions)
    return Examination(ok=is_well, conditions=conditions, findings=tuple(findings))


def _bad(name: str, found: Condition) -> Checked:
    facts = {"code": found.code, "severity": found.severity, "message": found.sentence, "remedy": found.remedy}
    return Checked(name=name, ok=False, **facts)


def _good(name: str, words: str) -> Checked:
    return Checked(name=name, ok=True, code=None, severity=None, message=words, remedy="")
