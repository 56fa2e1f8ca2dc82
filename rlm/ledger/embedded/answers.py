"""The commands that RLM sends to the embedded server over its socket.

They are separate from the code that starts the server, which need not wait for the import of redis-py.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rlm.core.errors import StoreError

#: How long it may leave a command unanswered, seconds. A server that is still reading its file answers with a refusal.
SILENT_SECONDS = 5.0
#: The remedy for a server that lives but does not answer.
HANGS_REMEDY = (
    "let its process continue if it was stopped (SIGCONT), check whether its disk or its host hangs, else end it; "
    "RLM starts it again, and no event is lost"
)


class ServerSocket:
    """The socket of the server of `data_dir`, whether a server answers there or not; close it after use."""

    def __init__(self, path: Path, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._client = redis.Redis(
            unix_socket_path=str(path),
            socket_timeout=SILENT_SECONDS,
            retry=Retry(NoBackoff(), 0),
            driver_info=None,  # as in `rlm.ledger.connect`
            protocol=2,
        )

    def data_of(self) -> str | None:
        """Return where a server that has read its file keeps its data; None if none answers yet.

        Raises:
            StoreError: a server accepts connections but does not answer.
        """
        try:
            self._client.ping()  # refused while it reads its file, unlike CONFIG
            return str(self._client.config_get("dir")["dir"])
        except redis.TimeoutError as error:
            raise StoreError(
                f"the embedded server of {str(self._data_dir)!r} runs and takes connections, but has answered nothing "
                f"for {SILENT_SECONDS:g} s: {HANGS_REMEDY}"
            ) from error
        except redis.ConnectionError:  # not there (yet, or any more), or still reading
            return None

    def set(self, setting: str, value: int, failed: str) -> None:
        """Change a setting.

        Raises:
            StoreError: it does not answer, or refuses; the message begins with `failed`.
        """
        try:
            self._client.config_set(setting, value)
        except redis.RedisError as error:
            raise StoreError(f"{failed} ({error})") from error

    def shut_down(self) -> None:
        """Ask it to end. Only its lock shows whether it did."""
        with suppress(redis.RedisError):
            self._client.shutdown()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
