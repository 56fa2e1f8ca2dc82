"""The parameters of requests with the rules for each; how an invalid request is refused.

The checks of a request and its description in /openapi.json are both made from these.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import PlainTextResponse, Response

from rlm.admin.endpoints import LONGEST_PAUSE_SECONDS, LONGEST_REASON
from rlm.admin.letters import LetterFilter
from rlm.admin.runs import RunFilter
from rlm.core.clock import system_clock
from rlm.core.errors import BadQuestionError
from rlm.core.item import Reason
from rlm.core.run import RUN_ID_START  # msgspec reads the annotations
from rlm.core.text import DURATIONS, seconds_of

_Asked = TypeVar("_Asked", bound=Struct)

#: The notation of rlm/core/text.py; not 0, and at most as many digits as dates back to 1970 need.
_DURATION = r"^(?=.*[1-9])(\d{1,5}(\.\d{1,9})?[smhd]){1,4}$|^(?=.*[1-9])\d{1,9}(\.\d{1,9})?$"
_PATTERN = re.compile(r"matching regex '.*'")
#: Most bytes of a body.
MOST_BYTES: Final = 65_536
_MOST_LISTED = 1000
_MOST_IDS = 1000
#: Most settings and endpoints to plan with: a request may cost at most a second or two.
_MOST_TRIED = 20

Duration = Annotated[str, Meta(pattern=_DURATION, description="A duration: 90, 90s, 10m, 24h; above 0.")]
Limit = Annotated[int, Meta(ge=1, le=_MOST_LISTED, description="How many, the newest first.")]
Offset = Annotated[int, Meta(ge=0, le=10**6, description="How many to skip before them.")]
Search = Annotated[str, Meta(max_length=200, description="Only those with this text in them, in upper or lower case.")]
Text = Annotated[str, Meta(max_length=200)]
LetterId = Annotated[str, Meta(max_length=50)]
Counted = Annotated[str, Meta(max_length=200, pattern=r"^[^=]{1,100}=\d{1,15}$")]
OrderReason = Annotated[str, Meta(max_length=LONGEST_REASON, description="Why; kept in the log.")]
OfType = Annotated[list[Text], Meta(max_length=100, description="Only those of one of these types.")]
OfReason = Annotated[list[Reason], Meta(max_length=100, description="Only those with one of these codes.")]
OfEndpoint = Annotated[list[Text], Meta(max_length=100, description="Only those last sent to one of these endpoints.")]
OfAnswer = Annotated[
    list[Text], Meta(max_length=100, description=("Only those caused by one of these answers, such as HTTP 500."))
]
Most = Annotated[int, Meta(ge=1, le=10**9, description="At most this many: the first ids, or the oldest that match.")]
Finished = Literal["completed", "partial", "cancelled", "failed"]


class Nothing(Struct, forbid_unknown_fields=True):
    """No parameter."""


class RunsAsked(Struct, forbid_unknown_fields=True):
    """Which runs to list."""

    limit: Limit = 20
    offset: Offset = 0
    state: Annotated[list[Finished], Meta(max_length=10, description="Only those in one of these states.")] = []
    since: Duration | None = None
    before: Annotated[
        str, Meta(pattern=rf"^({RUN_ID_START.pattern})?$", description=("Only those before this run."))
    ] = ""

    def chosen(self) -> RunFilter:
        """Return the filter that it describes."""
        return RunFilter(self.state, ago(self.since))


class LettersAsked(Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Which dead letters: those that match each criterion given."""

    type: OfType = []
    reason: OfReason = []
    endpoint: OfEndpoint = []
    since: Duration | None = None
    search: Search = ""
    answer: OfAnswer = []

    def chosen(self) -> LetterFilter:
        """Return the filter that it describes."""
        return LetterFilter(self.type, self.reason, self.endpoint, ago(self.since), self.search, self.answer)


class FailedAsked(LettersAsked, forbid_unknown_fields=True):
    """Which dead letters to list, and how."""

    limit: Limit = 20
    offset: Offset = 0
    grouped: Annotated[bool, Meta(description="Count the letters of each kind instead.")] = False


class PlanAsked(Struct, forbid_unknown_fields=True, rename="kebab"):
    """What `rlm plan` takes as options."""

    count: Annotated[list[Counted], Meta(max_length=100, description="TYPE=N: plan for N events of a type.")] = []
    workers: Annotated[int, Meta(ge=1, le=1000, description="Exactly N workers.")] | None = None
    set: Annotated[list[Text], Meta(max_length=_MOST_TRIED, description="KEY=VALUE: with this setting.")] = []
    add_endpoint: Annotated[
        list[Text], Meta(max_length=_MOST_TRIED, description="TYPE=NAME: with one more endpoint of a type.")
    ] = []


class ComplianceAsked(Struct, forbid_unknown_fields=True):
    """How far to look back."""

    since: Duration = "24h"


class Ordered(Struct, forbid_unknown_fields=True):
    """Why, if a reason is given."""

    reason: OrderReason = ""


class PauseOrdered(Ordered, forbid_unknown_fields=True):
    """For how long; without `seconds`, until it is resumed."""

    seconds: Annotated[float, Meta(gt=0, le=LONGEST_PAUSE_SECONDS, description="How long.")] | None = None


class LimitOrdered(Ordered, kw_only=True, forbid_unknown_fields=True):
    """The new limit."""

    rate: Annotated[str, Meta(min_length=1, max_length=200, description='As in the configuration: "20/minute".')]


class LettersOrdered(Ordered, forbid_unknown_fields=True):
    """Which dead letters: by `ids`, by a `filter`, or `all`; with `dry_run` only count them.

    If `most` is the number counted before, letters written since then stay.
    """

    ids: Annotated[list[LetterId], Meta(max_length=_MOST_IDS, description="Their ids.")] = []
    filter: LettersAsked | None = None
    all: bool = False
    dry_run: bool = False
    most: Most | None = None


def ago(duration: str | None) -> float | None:
    """Return the moment that long ago; None without a duration."""
    return None if duration is None else system_clock.now() - seconds_in(duration)


def seconds_in(duration: str) -> float:
    """Return a duration in seconds; raise BadQuestionError if it is 0."""
    if not (found := seconds_of(duration)) > 0:
        raise BadQuestionError(f"{duration!r} is not a duration; write for example {DURATIONS}")
    return found


def of_query(items: list[tuple[str, str]], kind: type[_Asked]) -> _Asked:
    """Read a query; raise BadQuestionError if a parameter is unknown, repeated, or has an invalid value."""
    lists = {one.encode_name for one in msgspec.structs.fields(kind) if one.default_factory is not msgspec.NODEFAULT}
    found: dict[str, Any] = {}
    for name, value in items:
        if name in lists:
            found.setdefault(name, []).append(value)
        elif name in found:
            raise BadQuestionError(f"the parameter {name!r} is given twice")
        else:
            found[name] = value
    try:
        return msgspec.convert(found, kind, strict=False)
    except msgspec.ValidationError as error:
        raise BadQuestionError(f"the query cannot be used: {_words(error)}") from None


async def read_body(request: Request) -> bytes:
    """Return the body; raise HTTPException if it is too long or the client has gone."""
    body = bytearray()
    try:
        if int(request.headers.get("Content-Length", "0")) <= MOST_BYTES:
            async for chunk in request.stream():
                body += chunk
                if len(body) > MOST_BYTES:
                    break
            else:
                return bytes(body)
    except ClientDisconnect:
        raise HTTPException(400, "The connection ended before the body") from None
    raise HTTPException(413, f"A body has at most {MOST_BYTES:,} bytes", {"Connection": "close"})


def of_body(body: bytes, kind: type[_Asked]) -> _Asked:
    """Read a body, `{}` if empty; raise BadQuestionError if it is not JSON or contains what `kind` does not allow."""
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BadQuestionError(f"the body cannot be used: {_words(error)}") from None


def _words(error: Exception) -> str:
    return _PATTERN.sub("of another form", str(error))


def document(content: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON answer."""
    return Response(msgspec.json.encode(content), status, headers, "application/json")


def refused(
    request: Request, status: int, error: str, remedy: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """Return the answer to a refused request, with `error` and `remedy` as sentences."""
    if request.url.path.startswith(("/api/", "/openapi.json")):
        return document({"error": error, "remedy": remedy}, status, headers)
    return PlainTextResponse(f"{error}\n{remedy}\n" if remedy else f"{error}\n", status, headers)
