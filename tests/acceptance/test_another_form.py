"""An installation whose keys another version keeps in another form: nobody works on it, and a way out."""

from __future__ import annotations

import pytest

from rlm import SCHEMA
from tests.store import looks


@pytest.mark.parametrize(
    "command",
    [
        ("scheduler",),
        ("supervisor",),
        ("worker", "start"),
        ("web", "--port", "0"),
        ("start", "--wait"),
        ("status",),
        ("queue", "push"),
    ],
)
def test_every_process_refuses_to_start_and_says_what_to_do(inst, command):
    """Nothing is changed there."""
    inst.store.client.hset(inst.store.keys.lease, "schema", SCHEMA + 1)
    with looks.nothing_changes(inst.store):
        refused = inst.rlm(*command, code=4, input="")

    assert f"form {SCHEMA + 1} of another version" in " ".join(refused.stderr.split())
    assert "`rlm queue list --json`" in refused.stderr
