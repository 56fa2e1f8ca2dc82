"""The two thin actors, and the messages of their queue, which name a run but no event.

`dispatch_events` makes a lane take turns while calls are released, `record_leftovers` closes a run. Anyone with access
to Redis may have written other messages; they are ignored.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, get_type_hints

import dramatiq
from dramatiq import Message
from dramatiq.errors import DecodeError

#: The only queue, and the names of the actors.
QUEUE = "rlm"
DISPATCH, LEFTOVERS = "dispatch_events", "record_leftovers"

#: The longest message (bytes) and the longest text in one (characters); ids are shorter.
_LONGEST_MESSAGE = 4096
_LONGEST_TEXT = 400
#: The only option, added by the broker.
_OPTION = "redis_message_id"


def declare(broker: dramatiq.Broker, actor: str, function: Callable[[str], object]) -> None:
    """Declare an actor by its name; it calls `function` with the id of the run."""

    def act(run_id: str) -> None:
        function(run_id)

    dramatiq.actor(broker=broker, actor_name=actor, queue_name=QUEUE)(act)


def message_for(actor: str, run_id: str) -> Message[Any]:
    """Return the message that makes an actor work for a run."""
    return Message(queue_name=QUEUE, actor_name=actor, args=(run_id,), kwargs={}, options={})


def read_message(data: bytes | None) -> Message[Any] | None:
    """Return the decoded message, or None if RLM cannot have written it."""
    if data is None or len(data) > _LONGEST_MESSAGE:
        return None
    try:
        message: Message[Any] = Message.decode(data)
    except DecodeError:
        return None
    return message if _is_ours(message) else None


def _is_ours(message: Message[Any]) -> bool:
    """Return whether a message is for this queue and has only positional text arguments."""
    options: object = message.options  # unchecked: it may have any type
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
    return isinstance(value, str) and value.isascii() and value.isprintable() and len(value) <= _LONGEST_TEXT


def fits(function: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    """Return whether the arguments match the types in the signature of an actor's function."""
    return tuple(map(type, args)) == _kinds(function)


@cache
def _kinds(function: Callable[..., Any]) -> tuple[type, ...]:
    return tuple(kind for name, kind in get_type_hints(function).items() if name != "return")
