"""The errors that RLM raises on purpose: one root, one family per boundary. Being over a limit is not an error.

Those of questions and orders are in `rlm/admin/errors.py`. `exit_code` is that of a command which an error ends.
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


class ArchiveError(RLMError):
    """Raised when the archive cannot be written. Redis keeps the letters until then: free space, or mend its owner."""
