"""Runs named by a prefix of their id, in every command that takes one."""

from __future__ import annotations


def test_a_run_is_named_by_as_much_of_its_id_as_no_other_has(inst):
    """The open one and those on record, in every command that takes one."""
    first = inst.start_run()
    inst.close_run(first)
    second = inst.start_run()
    unique = first.id[: next(at for at, (a, b) in enumerate(zip(first.id, second.id, strict=True)) if a != b) + 1]

    assert inst.json("result", unique)["run_id"] == first.id
    assert inst.json("status", unique)["run_id"] == first.id
    assert inst.json("status", second.id[:-1])["run_id"] == second.id
    assert "is not open" in inst.rlm("cancel", unique, code=3).stderr
