"""A Redis that is not the expected one, or refuses RLM's commands: an error at the start, a wait during a run."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.ledger.connect import make_client
from tests.acceptance.redisusers import PASSWORD, documented_users, make_user, make_users, url_of
from tests.acceptance.tlsserver import make_ca, tls_server
from tests.conftest import running_server
from tests.faults.test_processes_die import assert_next_run
from tests.wait import wait_until

pytestmark = pytest.mark.rest

#: Commands of each kind: long-running, one that only looks, one that looks at everything.
COMMANDS = [
    ("scheduler",),
    ("supervisor",),
    ("worker", "start"),
    ("status",),
    ("doctor",),
    ("queue", "stats"),
    ("start", "--wait"),
]


def refused(url, *args):
    """Run a command on a Redis that refuses it; return its output, which must contain no password."""
    done = CliRunner().invoke(rlm, args, env={"RLM_REDIS__URL": url})
    assert done.exit_code == 4, (done.output, done.exception)
    assert PASSWORD not in done.output
    assert "Traceback" not in done.output
    return done.output


@pytest.fixture(scope="module")
def tls(tmp_path_factory):
    """A server with TLS and the documented users."""
    directory = tmp_path_factory.mktemp("tls")
    with tls_server(directory) as server, make_client(server.admin_url) as admin:
        make_users(admin)
        yield server


@pytest.fixture(scope="module")
def users_url(tmp_path_factory):
    """The URL of a server with the documented users."""
    with running_server("valkey", tmp_path_factory.mktemp("users")) as url:
        with make_client(url) as admin:
            make_users(admin)
        yield url


@pytest.mark.parametrize("args", [("status",), ("doctor",), ("scheduler",)], ids=" ".join)
def test_a_server_of_another_ca_is_not_believed(tls, tmp_path, args):
    """Exit code 4, and the password was not sent."""
    other = make_ca("openssl", tmp_path, "other")

    said = refused(tls.url(f"rlm:{PASSWORD}@", ca=other), *args)

    assert "CERTIFICATE_VERIFY_FAILED" in said


def test_a_server_of_another_name_is_not_believed(tls):
    """A certificate of the right CA for another host is as bad."""
    said = refused(tls.url(f"rlm:{PASSWORD}@", host="127.0.0.1"), "status")

    assert "CERTIFICATE_VERIFY_FAILED" in said


def test_a_ca_file_that_is_not_there_is_named(tls, tmp_path):
    """The message has the file's name or says that there is none."""
    said = refused(tls.url(f"rlm:{PASSWORD}@", ca=tmp_path / "none.pem"), "status")

    assert "No such file" in said


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_wrong_password_is_exit_four(users_url, args):
    """At the start every command says what to correct, and neither the right password nor the wrong one."""
    said = refused(users_url.replace("unix://", "unix://rlm:wrong-password@"), *args)

    assert "refuses the login" in said
    assert f"Redis at {users_url}" in said
    assert "correct user and password in redis.url (or REDIS_URL)" in said
    assert "start it, or correct" not in said
    assert "wrong-password" not in said


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_missing_rights_are_exit_four(users_url, args):
    """At the start every command says where the rights are listed, or which of them it lacks first."""
    said = refused(url_of(users_url, "audit"), *args)

    assert "docs/security.md" in said or "+info" in said


@pytest.mark.parametrize("args", [("endpoint", "pause", "rebalance_api")], ids=" ".join)
def test_who_may_look_only_is_told_whose_rights_are_needed(users_url, args):
    """In mid-command as well: which server, and that its user needs the rights of RLM's own."""
    said = refused(url_of(users_url, "watcher"), *args)

    assert f"Redis at {users_url}" in said
    assert "give that user the rights of docs/security.md" in said
    assert "start it, or correct" not in said


def refusals(system):
    """Return how often the scheduler has said that it was refused, which it does at most every 5 s."""
    return system.log("scheduler").count("calls wait meanwhile: acquire_lease")


def test_rights_taken_away_in_mid_run_are_waited_for(make_system, tmp_path):
    """No call is made without them, nothing is lost, and the run goes on once they are back."""
    with running_server("valkey", tmp_path / "server") as url, make_client(url) as admin:
        make_users(admin)
        with make_system(env={"RLM_REDIS__URL": url_of(url, "rlm"), "RLM_WORKERS__MAX": "2"}) as system:
            system.start_both()
            events = system.push_evenly(150)
            run_id = system.ask_for_run()
            wait_until(lambda: len(system.answered()) > 20, message="calls are made", timeout=20)

            make_user(admin, "rlm", ["-@all", "+ping"])
            wait_until(lambda: refusals(system) > 0, message="the scheduler sees it")
            before = len(system.api.arrivals)
            wait_until(lambda: refusals(system) > 1, message="it tries again")
            assert len(system.api.arrivals) - before <= system.settings.workers.threads, "calls were made without slots"
            make_user(admin, "rlm", documented_users()["rlm"])

            record = system.await_record(run_id)
            assert PASSWORD not in system.log("scheduler") + system.log("supervisor")
            system.assert_promises(events, [record])
            assert_next_run(system)
