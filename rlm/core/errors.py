"""Every error that RLM raises on purpose: one root, a family for each boundary. Being over a limit is no error."""

from __future__ import annotations


class RLMError(Exception):
    """Root of RLM's errors: catch it to catch them all."""


class ConfigurationError(RLMError):
    """Raised when the configuration cannot be used. The message names file, key, value and what is allowed."""


class StoreError(RLMError):
    """Raised when Redis refuses or cannot be reached. No call is made without it; try again once it is back.

    The message is `what` happened and, if known, the `remedy`; `rlm doctor` reads them separately. `waited_seconds` is
    how long RLM waited for an answer in vain.
    """

    def __init__(self, what: str = "", remedy: str = "", waited_seconds: float = 0.0) -> None:
        super().__init__(f"{what}: {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy
        self.waited_seconds = waited_seconds


class StoreUnreachableError(StoreError):
    """Raised when Redis cannot be reached. Start it, or correct `redis.url`."""


class StoreRefusingError(StoreUnreachableError):
    """Raised when Redis says that it can do nothing just now, as a replica or with a full memory.

    The command that it refused was not done. Those before it in the same round trip may have been, unless they are one
    transaction.
    """


class StoreForbiddenError(StoreError):
    """Raised when the user of `redis.url` lacks a right. docs/security.md lists those that RLM's user needs."""


class StoreUnfitError(StoreError):
    """Raised when a Redis is reachable but would lose events. The message names the setting and the remedy."""


class StoreGarbledError(StoreError):
    """Raised when a key holds what cannot be there. The leader sets it aside; `rlm doctor` names it."""


class UnsafeError(ConfigurationError, StoreError):
    """Raised when another user could change or replace a file or directory that RLM reads, runs or writes.

    For a command it is a fault of the configuration. Code that retries while Redis is away retries this as well.
    """


class FencedError(StoreError):
    """Raised when a newer conductor holds the lease: nothing was written, stop conducting at once."""


class RunError(RLMError):
    """Raised when a run cannot be started, found or ended as asked."""


class NoSuchRunError(RunError):
    """Raised when a run (or an event) is not known. `rlm list` names the runs."""


class RunUnderWayError(RunError):
    """Raised when a run cannot be started because one is open. The message names it."""


class NobodyConductsError(RunError):
    """Raised when no scheduler took a run up in time. `rlm up` or `rlm scheduler` starts one."""


class NoSuchLetterError(RLMError):
    """Raised when no dead letter has this id. `rlm failed list` shows those there are."""


class AmbiguousRunError(RunError):
    """Raised when the typed beginning of a run's id fits several. The message names them; type more of it."""


class NoSuchEndpointError(RLMError):
    """Raised when no configured endpoint, budget or type has this name. `rlm endpoint list` shows the names."""


class NoSuchHostError(RLMError):
    """Raised when no host has this name, or it is not in the state that was asked for. The message says which are."""


class BadQuestionError(RLMError):
    """Raised when something cannot be asked or ordered so. The message says what can; `option` names the part."""

    def __init__(self, what: str, option: str = "") -> None:
        super().__init__(what)
        self.option = option


class InterruptedByHandError(RunError):
    """Raised when a signal asked this process to stop. What it has started is taken down on the way out."""


class ArchiveError(RLMError):
    """Raised when the archive cannot be written. Redis keeps everything meanwhile; free space or correct the owner."""


class DispatchError(RLMError):
    """Raised when a call could not be prepared. The event stays unsettled."""


class ListenError(RLMError):
    """Raised when an address cannot be bound; another process may be using it."""

    @classmethod
    def at(cls, host: str, port: int, error: OSError) -> ListenError:
        """Return the error of an address, with what the system says of it."""
        why = str(error.strerror).rpartition("): ")[2].capitalize()  # asyncio has the address before it
        return cls(f"cannot listen on {host} port {port}: {why}; choose another --host or --port")
