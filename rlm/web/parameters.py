"""The parameters of requests, with the rules for each; the same for the JSON interface and the filters of pages."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar

import msgspec
from msgspec import Meta, Struct

from rlm.admin.endpoints import LONGEST_PAUSE_SECONDS, LONGEST_REASON
from rlm.admin.letters import LetterFilter
from rlm.core.clock import system_clock
from rlm.core.errors import BadQuestionError
from rlm.core.item import Place, Reason
from rlm.core.text import DURATIONS, seconds_of
from rlm.ledger.waiting import EventFilter

_Asked = TypeVar("_Asked", bound=Struct)

Limit = Annotated[int, Meta(ge=1, le=1000, description="How many, the newest first.")]
After = Annotated[int, Meta(ge=0, le=10**9)]
Duration = Annotated[str, Meta(max_length=30, description="A duration: 90, 90s, 10m, 24h; above 0.")]
Text = Annotated[str, Meta(max_length=200)]
#: Any of several names. A request with settings or endpoints to try may cost at most a second or two.
Names = Annotated[list[Text], Meta(max_length=100)]
Tried = Annotated[list[Text], Meta(max_length=20)]


class Nothing(Struct, forbid_unknown_fields=True):
    """No parameter."""


class RunsAsked(Nothing):
    """Which runs to list."""

    limit: Limit = 20


class LettersAsked(Nothing, omit_defaults=True):
    """Which dead letters: those that match each criterion given."""

    type: Names = []
    reason: Annotated[list[Reason], Meta(max_length=100)] = []
    endpoint: Names = []
    since: Duration | None = None
    search: Text = ""

    def chosen(self) -> LetterFilter:
        """Return the filter that it describes."""
        since = None if self.since is None else system_clock.now() - seconds_in(self.since)
        return LetterFilter(self.type, self.reason, self.endpoint, since, self.search)


class LettersShown(LettersAsked):
    """Which dead letters a page shows: those after so many."""

    after: After = 0


class EventsShown(Nothing, omit_defaults=True, rename="kebab"):
    """Which waiting events a page shows."""

    type: Names = []
    state: Annotated[list[Place], Meta(max_length=10)] = []
    wallet: Text = ""
    item: Text = ""
    older_than: Duration | None = None
    after: After = 0

    def chosen(self) -> EventFilter:
        """Return the filter that it describes."""
        older = None if self.older_than is None else seconds_in(self.older_than)
        return EventFilter(frozenset(self.type), self.wallet, self.item, older, frozenset(self.state))


class FailedAsked(LettersAsked):
    """Which dead letters to list, and how."""

    limit: Limit = 20
    grouped: Annotated[bool, Meta(description="Count the letters of each kind instead.")] = False


class PlanAsked(Nothing, rename="kebab"):
    """What `rlm plan` takes as options."""

    count: Annotated[Names, Meta(description="TYPE=N: plan for N events of a type.")] = []
    workers: Annotated[int, Meta(ge=1, le=1000, description="Exactly N workers.")] | None = None
    set: Annotated[Tried, Meta(description="KEY=VALUE: with this setting.")] = []
    add_endpoint: Annotated[Tried, Meta(description="TYPE=NAME: with one more endpoint of a type.")] = []


class ComplianceAsked(Nothing):
    """How far to look back."""

    since: Duration = "24h"


class Ordered(Nothing):
    """Why, if a reason is given."""

    reason: Annotated[str, Meta(max_length=LONGEST_REASON, description="Why; kept in the log.")] = ""


class PauseOrdered(Ordered):
    """For how long; without `seconds`, until it is resumed."""

    seconds: Annotated[float, Meta(gt=0, le=LONGEST_PAUSE_SECONDS, description="How long.")] | None = None


class LimitOrdered(Ordered, kw_only=True):
    """The new limit."""

    rate: Annotated[str, Meta(min_length=1, max_length=200, description='As in the configuration: "20/minute".')]


class LettersOrdered(Ordered):
    """Which dead letters: by `ids`, by a `filter`, or `all`.

    If `most` is the number counted before, letters written since then stay.
    """

    ids: Annotated[list[Annotated[str, Meta(max_length=50)]], Meta(max_length=1000)] = []
    filter: LettersAsked | None = None
    all: bool = False
    most: Annotated[int, Meta(ge=1, le=10**9)] | None = None


def seconds_in(duration: str) -> float:
    """Return a duration in seconds; raise BadQuestionError if it is none or 0."""
    if not (seconds := seconds_of(duration)) > 0:
        raise BadQuestionError(f"{duration!r} is not a duration; write for example {DURATIONS}")
    return seconds


def of_query(items: list[tuple[str, str]], kind: type[_Asked]) -> _Asked:
    """Read a query; raise BadQuestionError if a parameter is unknown, repeated, or has an invalid value."""
    lists = {each.encode_name for each in msgspec.structs.fields(kind) if each.default_factory is list}
    values: dict[str, Any] = {}
    for name, value in items:
        if name in lists:
            values.setdefault(name, []).append(value)
        elif name in values:
            raise BadQuestionError(f"the parameter {name!r} is given twice")
        else:
            values[name] = value
    try:
        return msgspec.convert(values, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadQuestionError(f"the query cannot be used: {error}") from None


def of_body(body: bytes, kind: type[_Asked]) -> _Asked:
    """Read a body, `{}` if empty; raise BadQuestionError if it is not JSON or contains what `kind` does not allow."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadQuestionError(f"the body cannot be used: {error}") from None
