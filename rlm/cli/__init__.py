"""The `rlm` command. It imports little, because every worker imports it; a command is loaded when it is used."""

from __future__ import annotations

import codecs
import gc
import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress


def main() -> None:
    """Run the command line. Ctrl-C ends it quietly, even before a command is loaded."""
    try:
        with uncollected():
            from rlm.cli.group import rlm

        settle_streams()
        rlm()
    except KeyboardInterrupt:
        raise SystemExit(130) from None


@contextmanager
def uncollected() -> Iterator[None]:
    """Keep the garbage collector away from imported objects, now and later: they all stay, and scanning is slow."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def settle_streams() -> None:
    """Make any text encodable, and ignore failed writes to stderr: the exit code still shows how a command ended."""
    codecs.register_error("rlm", _escaped)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="rlm")
    if sys.stderr:
        raw = io.BufferedWriter(io.FileIO(2, "w", closefd=False))
        sys.stderr = _Unread(raw, sys.stderr.encoding, errors="rlm", line_buffering=True)


class _Unread(io.TextIOWrapper):
    """A stream that ignores failed writes."""

    def write(self, text: str, /) -> int:
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def _escaped(error: UnicodeError) -> tuple[str, int]:
    r"""Escape characters that the encoding lacks as JSON does, `\u00e9`, so that JSON keeps its meaning."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4)), error.end
