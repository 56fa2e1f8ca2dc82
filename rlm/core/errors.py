"""Every error that RLM raises on purpose: one root, one family per boundary. Being over a limit is not an error.

`exit_code` is that of a command which an error ends.
"""

from __future__ import annotations


class RLMError(Exception):
    """Root of RLM's errors; catch it to catch all of them."""

    exit_code = 1


class ConfigurationError(RLMError):
    """Raised when the configuration cannot be used. The message names file, key, value and what is allowed."""

    exit_code = 2


class StoreError(RLMError):
    """Raised when Redis refuses or cannot be reached. No call is made without it; try again once it is back."""

    exit_code = 4

    def __init__(self, what: str = "", remedy: str = "") -> None:
        super().__init__(f"{what}: {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class StoreUnreachableError(StoreError):
    """Raised when Redis cannot be reached. Start it, or correct `redis.url`."""


class StoreRefusingError(StoreUnreachableError):
    """Raised when Redis cannot serve now: it is a replica, or its memory is full. The command was not done."""


class StoreForbiddenError(StoreError):
    """Raised when the login is refused, or the user of `redis.url` lacks a permission. See docs/security.md."""


class StoreUnfitError(StoreError):
    """Raised when Redis is reachable but would lose events. The message names the setting and the remedy."""


class StoreGarbledError(StoreError):
    """Raised when a key holds a value that RLM never writes. The loops go on; `rlm doctor` names it."""


class UnsafeError(ConfigurationError, StoreError):
    """Raised when another user could change a file or directory that RLM uses. What retries Redis retries this."""


class FencedError(StoreError):
    """Raised when a newer conductor holds the lease. Nothing was written; stop conducting at once."""

    exit_code = 1


class RunError(RLMError):
    """Raised when a run cannot be started, found or ended as asked."""


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


class ArchiveError(RLMError):
    """Raised when the archive cannot be written. Redis keeps the letters until then: free space, or mend its owner."""


class ListenError(RLMError):
    """Raised when an address cannot be bound; another process may be using it."""

    @classmethod
    def at(cls, host: str, port: int, error: OSError) -> ListenError:
        """Return the error for an address, with the reason that the system gives."""
        why = str(error.strerror).rpartition("): ")[2].capitalize()  # asyncio puts the address before the reason
        return cls(f"cannot listen on {host} port {port}: {why}; choose another address or port")
