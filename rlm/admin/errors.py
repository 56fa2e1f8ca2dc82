"""Errors of what people ask and order: the commands and the web show them; the engine knows none of them."""

from __future__ import annotations

from rlm.core.errors import RLMError, RunError


class NoSuchRunError(RunError):
    """Raised when a run, an event or a dead letter is not known."""

    exit_code = 3


class NoSuchEndpointError(RLMError):
    """Raised when no configured endpoint, budget or type has this name. `rlm endpoint list` shows the names."""

    exit_code = 2


class BadQuestionError(RLMError):
    """Raised when a question or an order is not possible. The message says what is; `option` names the faulty part."""

    exit_code = 2

    def __init__(self, what: str, option: str = "") -> None:
        super().__init__(what)
        self.option = option


class InterruptedByHandError(RunError):
    """Raised when a signal asked this process to stop. On the way out it stops what it has started."""

    exit_code = 130


class ListenError(RLMError):
    """Raised when an address cannot be bound; another process may be using it."""

    @classmethod
    def at(cls, host: str, port: int, error: OSError) -> ListenError:
        """Return the error for an address, with the reason that the system gives."""
        why = str(error.strerror).rpartition("): ")[2].capitalize()  # asyncio puts the address before the reason
        return cls(f"cannot listen on {host} port {port}: {why}; choose another address or port")
