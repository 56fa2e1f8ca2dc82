"""What the embedded server is asked over its socket.

It is apart from what starts the server: that need not wait until redis-py is imported.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rlm.core.errors import StoreError

#: How long it may leave a question unanswered, seconds. One that still reads its file answers, with a refusal.
SILENT_SECONDS = 5.0
#: What to do about a server that lives and answers nothing.
HANGS_REMEDY = (
    "let its process go on where it was stopped (SIGCONT), see whether its disk or its host stands still, else end it; "
    "RLM starts it again, and no event is lost"
)


class ServerSocket:
    """The socket of the server of `data_dir`, whether one answers there or not; to be closed."""

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
        """Return where a server that has read its file keeps its data; None where none answers yet.

        Raises:
            StoreError: one takes connections, and answers nothing.
        """
        try:
            self._client.ping()  # refused while it reads the file, when the other is not
            return str(self._client.config_get("dir")["dir"])
        except redis.TimeoutError as error:
            raise StoreError(
                f"the embedded server of {str(self._data_dir)!r} runs and takes connections, but has answered nothing "
                f"for {SILENT_SECONDS:g} s: {HANGS_REMEDY}"
            ) from error
        except redis.ConnectionError:  # none there, not yet, no more, or still reading
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
        """Ask it to end. Whether it did is its lock's to say."""
        with suppress(redis.RedisError):
            self._client.shutdown()

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
