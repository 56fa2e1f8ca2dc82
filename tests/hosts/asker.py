"""Runs commands of RLM repeatedly in one process, so that a busy machine does not take seconds to start each.

`python tests/hosts/asker.py CONFIG COMMAND...`: prints a line each time, `[time, COMMAND, document]`.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from contextlib import suppress

from click.testing import CliRunner

from rlm.cli.group import rlm

#: The pause between two rounds, seconds.
_PAUSE = 0.3


def main() -> None:
    config, *commands = sys.argv[1:]
    while True:
        for command in commands:
            asked = time.time()
            said = CliRunner().invoke(rlm, [*shlex.split(command), "--json", "--config", config])
            with suppress(ValueError):
                print(json.dumps([asked, command, json.loads(said.stdout)]), flush=True)
        time.sleep(_PAUSE)


if __name__ == "__main__":
    main()
