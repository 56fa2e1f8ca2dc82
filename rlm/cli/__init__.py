"""The `rlm` command. It imports little: every worker imports it at birth, and a command loads when it is asked for."""

from __future__ import annotations

import codecs
import io
import os
import sys
from contextlib import suppress


def main() -> None:
    """Run the command line. Ctrl-C ends it quietly, even before a command is loaded."""
    try:
        from rlm.cli.group import rlm  # noqa: PLC0415  # see above

        settle_streams()
        rlm()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


def settle_streams() -> None:
    """Open those that are closed, have any text be writable, and let go unread what nobody reads on stderr.

    For the process of a command, before it does anything else.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:  # `rlm status >&-`: else the next file or connection that is opened would become stdout
            os.open(os.devnull, os.O_RDWR)  # which gets the lowest number that is free
    codecs.register_error("rlm", _escaped)
    sys.stdin = sys.stdin or io.TextIOWrapper(io.FileIO(0, closefd=False))
    sys.stdout = sys.stdout or io.TextIOWrapper(io.FileIO(1, "w", closefd=False))
    sys.stdout.reconfigure(errors="rlm")  # type: ignore[union-attr]  # it is what Python made, or we
    encoding = sys.stderr.encoding if sys.stderr else "utf-8"
    raw = io.BufferedWriter(io.FileIO(2, "w", closefd=False))
    sys.stderr = _Unread(raw, encoding, errors="rlm", line_buffering=True)


class _Unread(io.TextIOWrapper):
    """A stream whose reader may have gone, or its disk be full: the exit code still tells how the command ended."""

    def write(self, text: str, /) -> int:
        """Write what can be written; the rest is lost."""
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is kept, if that can be."""
        with suppress(OSError):
            super().flush()


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Write what an encoding does not have as JSON does, `\u00e9`, so that JSON is still what it was."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end
