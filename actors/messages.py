"""What a message of the queue may be: a claim check that RLM wrote. Whoever reaches Redis may have written others."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, get_type_hints

from dramatiq import Message
from dramatiq.errors import DecodeError

if TYPE_CHECKING:
    from collections.abc import Callable

#: The one queue: dispatches, and the end of a run.
QUEUE = "rlm"

#: A message is no longer than this, bytes, and a text in it than this, characters: ids are shorter.
_LONGEST_MESSAGE = 4096
_LONGEST_TEXT = 400
#: What a number of a release may be, which Lua can still count.
_LARGEST = 2**53
#: The one option that the broker adds.
_OPTION = "redis_message_id"


def read_message(data: bytes | None) -> Message[Any] | None:
    """Return the message that `data` is, None where RLM cannot have written it."""
    if data is None or len(data) > _LONGEST_MESSAGE:
        return None
    try:
        message: Message[Any] = Message.decode(data)
    except DecodeError:
        return None
    return message if _is_claim_check(message) else None


def _is_claim_check(message: Message[Any]) -> bool:
    """Return whether a message is of the queue, and has nothing but texts and numbers to say, in positions."""
    options: object = message.options  # whatever stood there: nobody has checked it
    if not isinstance(options, dict) or [*options] != [_OPTION]:
        return False
    names = (message.actor_name, message.message_id, options[_OPTION])
    return (
        message.queue_name == QUEUE
        and message.kwargs == {}
        and all(isinstance(name, str) for name in names)
        and all(map(_is_plain, (*names, *message.args)))
    )


def _is_plain(value: object) -> bool:
    if isinstance(value, str):
        return value.isascii() and value.isprintable() and len(value) <= _LONGEST_TEXT
    return type(value) is int and 0 <= value <= _LARGEST


def fits(function: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    """Return whether the function of an actor takes these arguments, by the types in its signature."""
    return tuple(map(type, args)) == _kinds(function)


@cache
def _kinds(function: Callable[..., Any]) -> tuple[type, ...]:
    return tuple(kind for name, kind in get_type_hints(function).items() if name != "return")
