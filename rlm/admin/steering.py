"""What operators order of endpoints and budgets on the live system, each with the document of its command."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.core.errors import BadQuestionError
from rlm.core.text import cut, safe_line
from rlm.core.window import Circuit, shut_by
from rlm.settings.values import check_limit

if TYPE_CHECKING:
    from rlm.core.endpoint import Limited
    from rlm.ledger import Store

#: The longest pause with an end, seconds.
LONGEST_PAUSE_SECONDS = 366 * 86_400.0
#: The most characters of a reason.
LONGEST_REASON = 200


def pause(store: Store, one: Limited, by: str, seconds: float | None = None, reason: str = "") -> dict[str, Any]:
    """Let no new call go to an endpoint or a budget, for `seconds` or until it is resumed."""
    store.control.pause(one, by, seconds, check_reason(reason))
    return {"name": one.name, "paused_seconds": seconds, "by": by}


def resume(store: Store, one: Limited, by: str, reason: str = "") -> dict[str, Any]:
    """End a pause, and a rest for what was answered; say what was ended, and for how long it is held all the same."""
    resumed = store.control.resume(one, by, check_reason(reason))
    view = store.windows.look([one])[1][one.name]
    return {
        "name": one.name,
        "paused": resumed.paused,
        "rested": resumed.rested,
        "probing": shut_by(view) is Circuit.PROBING,
        "held_seconds": round(view.held_seconds, 3),
    }


def limit(store: Store, one: Limited, by: str, rate: str, reason: str = "") -> dict[str, Any]:
    """Change a limit; `rate` is as `check_rate` returns it."""
    return {"name": one.name, "from": store.control.limit(one, rate, by, check_reason(reason)), "to": rate, "by": by}


def check_rate(rate: str) -> str:
    """Return a limit in its one spelling.

    Raises:
        BadQuestionError: it is none.
    """
    try:
        return check_limit(" ".join(rate.split()))
    except ValueError as error:
        raise BadQuestionError(f"RATE {rate!r}: {error}") from None


def check_reason(reason: str) -> str:
    """Return a reason as it is kept, on one line.

    Raises:
        BadQuestionError: it is too long.
    """
    if len(reason) > LONGEST_REASON:
        raise BadQuestionError(f"the reason {cut(safe_line(reason), 40)!r} is longer than {LONGEST_REASON} characters")
    return " ".join(reason.split()).encode("utf-8", "replace").decode()
