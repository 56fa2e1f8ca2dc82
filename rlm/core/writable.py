"""Whether a directory takes a file. A full disk, or a quota that is used up, refuses only who writes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile


def refusal_of(directory: Path) -> str:
    """Return why nothing can be written in a directory, empty if it can. Nothing is left there."""
    try:
        with TemporaryFile(dir=directory) as file:
            file.write(b"{}\n")
    except OSError as error:
        return error.strerror or str(error)
    return ""
