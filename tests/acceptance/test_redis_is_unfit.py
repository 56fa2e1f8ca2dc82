"""What is said while Redis is not fit: every face names it, and none blames a scheduler or promises the next run."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from rlm.admin import report, start_run
from rlm.admin.verdict import Level, verdict
from rlm.core.clock import system_clock
from rlm.ledger.processes import Process, Role
from rlm.web.app import trouble
from tests.acceptance.cli import Installation, words_of
from tests.acceptance.webapp import served
from tests.conftest import running_server
from tests.store import steps


@contextmanager
def evicting(client):
    client.config_set("maxmemory", "1gb")
    client.config_set("maxmemory-policy", "allkeys-lru")
    yield "maxmemory-policy is allkeys-lru"
    client.config_set("maxmemory-policy", "noeviction")


@contextmanager
def full(client):
    client.config_set("maxmemory", 1)
    yield "memory is full"
    client.config_set("maxmemory", 0)


@contextmanager
def following(client):
    client.replicaof("127.0.0.1", "1")
    yield "it is a replica"
    client.replicaof("NO", "ONE")


@contextmanager
def unheard(client):
    client.config_set("min-replicas-to-write", 1)
    yield "too few of its replicas keep up with it"
    client.config_set("min-replicas-to-write", 0)


@pytest.fixture
def inst(tmp_path):
    """An installation on a server of its own, with a scheduler and an event that waits."""
    with running_server("valkey", tmp_path / "server") as url, Installation(tmp_path, url) as made:
        scheduler = Process("here:1", 1, "here", system_clock.now(), revision=made.settings.revision)
        made.store.processes.announce(Role.SCHEDULER, scheduler)
        made.push(steps.item("one", steps.TYPE))
        yield made


@pytest.mark.parametrize("unfit", [evicting, full, following, unheard])
def test_between_two_runs_it_is_said_that_none_starts(inst, unfit, monkeypatch):
    """By the status, the page, the health check and the one who asks for a run, until it is fit again."""
    monkeypatch.setattr(start_run, "ANSWER_SECONDS", 0.0)
    with unfit(inst.store.client) as why:
        shown = words_of(inst.rlm("status"))
        told, found = verdict(report.overview(inst.store)), inst.json("status")

        assert why in found["unfit"]
        assert "next tick none: nothing is sent until Redis is fit" in shown
        assert "starts one now" not in shown, "no run starts"
        assert "when a run needs them" not in shown, "no worker does either"
        assert ("no supervisor is heard from" in shown) is (unfit is evicting), "elsewhere none can write that it lives"
        assert why in shown
        assert (told.level, told.words) == (Level.BAD, "No run starts")
        assert why in told.more
        assert "not fit" in trouble(inst.store)
        assert "No scheduler took" not in inst.rlm("start", code=4).stderr
        with served(inst.store) as web:
            page = web.get("/").data.decode()
        assert why in page
        assert "<code>rlm start" not in page, "it would be refused"

    assert inst.json("status")["unfit"] is None
    assert "The next tick takes them" in inst.rlm("queue", "push", input=steps.item("three", steps.TYPE)).stdout
    assert "next tick none" not in words_of(inst.rlm("status"))
    assert trouble(inst.store) == ""
