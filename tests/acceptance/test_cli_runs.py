"""Runs named by a prefix of their id, in every command that takes one."""

from __future__ import annotations

from rlm.admin.report import find_run


def test_a_run_is_named_by_as_much_of_its_id_as_no_other_has(inst):
    """The open one and those on record, in every command that takes one."""
    first = inst.start_run()
    inst.close_run(first)
    second = inst.start_run()
    unique = first.id[: next(at for at, (a, b) in enumerate(zip(first.id, second.id, strict=True)) if a != b) + 1]

    assert inst.json("result", unique)["run_id"] == first.id
    assert inst.json("status", unique)["run_id"] == first.id
    assert inst.json("status", second.id[:-1])["run_id"] == second.id
    assert first.id in inst.rlm("status", unique, "--follow").stdout
    assert "is not open" in inst.rlm("cancel", unique, code=3).stderr


def test_a_prefix_of_several_runs_is_a_usage_error_that_names_them(inst):
    """Nothing is guessed; an id that is one run's and begins another's is that run's."""
    run = inst.start_run()
    inst.close_run(run)
    inst.store.client.hset(inst.store.keys.records, f"{run.id}-longer", "")

    for command in ("status", "result", "cancel"):
        said = inst.rlm(command, run.id[:-1], code=2).stderr
        assert all(name in said for name in (run.id, f"{run.id}-longer"))
    assert find_run(inst.store, run.id) == run.id


def test_a_list_goes_on_before_a_run_and_before_nothing_else(inst):
    """What cannot be a run's id is unknown like any other, and no list of all; the beginning of one is a moment."""
    ids = []
    for _ in range(2):
        run = inst.start_run()
        inst.close_run(run)
        ids.append(run.id)

    assert [one["run_id"] for one in inst.json("list", "--before", ids[1])] == ids[:1]
    assert inst.json("list", "--before", ids[1][:4]) == []
    for word in ("NOPE", "Z", "2026-11-28", f"{ids[1]}0"):
        done = inst.rlm("list", "--before", word, code=3)
        assert "no run has such an id" in done.stderr, word
