"""Coverage-guided fuzzing by atheris, which is not a dependency of RLM.

    uv run --with atheris python -m tests.fuzz.guided intake -runs=1000000
    uv run --with atheris python -m tests.fuzz.guided settings -max_total_time=600

Further options are those of libFuzzer. It ends at the first input that raises an unexpected error, and writes it to a
file `crash-*` in the current directory.
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import atheris

with atheris.instrument_imports(include=["rlm"]):
    from rlm.core.errors import ConfigurationError
    from rlm.core.item import NOT_EMBEDDABLE, BadItemError, decode_item, encode_letter
    from rlm.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_BYTES = 4096


def intake(raw: bytes) -> None:
    """Check that an item is good, also for another JSON reader, or a dead letter that contains it."""
    try:
        item = decode_item(raw, MAX_BYTES)
    except BadItemError as error:
        letter = json.loads(encode_letter(raw, error.reason, error.detail, failed_at=0.0, run_id=None, event=None))
        if error.reason in NOT_EMBEDDABLE:
            assert base64.b64decode(letter["item"]["base64"]) == raw
        return
    document = json.loads(raw)
    assert (document["id"], document["wallet_name"]) == (item.id, item.wallet_name)
    assert item.types == tuple(dict.fromkeys(document["events"]))


def settings(text: bytes) -> None:
    """Check that a file gives settings or a fault."""
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "rlm.toml"
        file.write_bytes(text)
        try:
            load_settings(file, {})
        except ConfigurationError:
            return


TARGETS: dict[str, Callable[[bytes], None]] = {"intake": intake, "settings": settings}

if __name__ == "__main__":
    target = TARGETS[sys.argv.pop(1)]
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
