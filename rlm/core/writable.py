"""Whether a directory can be written to. A full disk or a used-up quota shows only when something is written."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryFile


def refusal_of(directory: Path) -> str:
    """Return why nothing can be written in a directory, empty if it can. The trial file is removed."""
    try:
        with TemporaryFile(dir=directory) as file:
            file.write(b"{}\n")
    except OSError as error:
        return error.strerror or str(error)
    return ""
