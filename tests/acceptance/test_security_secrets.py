"""Recognisable secrets: none of them appears in anything that a whole system in trouble leaves behind."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.ledger.connect import make_client
from tests.acceptance.redisusers import PASSWORD, documented_users, make_user, make_users, url_of
from tests.acceptance.system import make_item
from tests.conftest import running_server
from tests.faults.test_processes_die import assert_next_run
from tests.ingest import Ingest
from tests.leftbehind import processes_of
from tests.wait import wait_until

TOKEN, DSN_KEY = "token-that-nobody-may-see", "dsnkey-that-nobody-may-see"
SECRETS = (PASSWORD, TOKEN, DSN_KEY)


def command_lines(place):
    """Return what `ps` shows to everybody about processes that belong to `place`."""
    return {pid: Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace") for pid in processes_of(place)}


@pytest.mark.long
def test_a_system_in_trouble_lets_no_secret_out(make_system, tmp_path, monkeypatch):
    """Endpoints fail, Redis refuses the login in mid-run: logs, outputs, titles and Sentry hold none of the secrets.

    No call is made meanwhile, nothing is lost, and the run goes on by itself once the password is right again.
    """
    outputs: list[str] = []
    with running_server("valkey", tmp_path / "server") as url, make_client(url) as admin, Ingest() as sentry:
        make_users(admin)
        monkeypatch.setenv("API_TOKEN", TOKEN)
        monkeypatch.setenv("SENTRY_DSN", sentry.dsn.replace("public", DSN_KEY))
        monkeypatch.setenv("RLM_REDIS__URL", url_of(url, "rlm"))
        with make_system(
            env={"RLM_REDIS__URL": url_of(url, "rlm"), "RLM_WORKERS__MAX": "2", "RLM_ALARM__FAILED": "1"}
        ) as system:
            text = system.config.read_text()
            headers = 'headers = { Authorization = "env:API_TOKEN" }'
            system.config.write_text(text.replace('"name" = "rebalance_api"', f'"name" = "rebalance_api", {headers}'))
            assert headers in system.config.read_text()

            def command(*args):
                done = CliRunner().invoke(rlm, [*args, "--config", str(system.config)])
                assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
                outputs.append(done.output)

            system.start_both()
            system.api.set_fault("rebalance_api", error_rate=0.5, status=500)
            system.api.set_fault("open_position_api", down=True)
            system.api.set_fault("open_order_api", status=400)
            events = system.push_evenly(150)
            system.push(
                make_item(f"u{number}", "UNKNOWN") for number in range(2)
            )  # an error, so that Sentry hears of it
            run_id = system.ask_for_run()
            wait_until(lambda: len(system.answered()) > 20, message="calls are made", timeout=20)
            shown = command_lines(tmp_path)
            os.kill(system.workers()[0], signal.SIGKILL)
            wait_until(lambda: "ended unexpectedly" in system.log("supervisor"), message="its death is noticed")

            make_user(admin, "rlm", ["resetpass", ">another"])
            admin.execute_command("CLIENT", "KILL", "USER", "rlm")
            for name in ("scheduler", "supervisor"):
                wait_until(
                    lambda name=name: "refuses the login" in system.log(name), message=f"the {name} sees it", timeout=20
                )
            for args in (("status",), ("doctor",), ("queue", "stats")):
                command(*args)
            system.api.set_fault("*")
            make_user(admin, "rlm", documented_users()["rlm"])

            record = system.await_record(run_id)
            for args in (("status",), ("result",), ("list",), ("failed", "list"), ("doctor",), ("plan",)):
                command(*args)
            system.config.write_text(f"{system.config.read_text()}\n[nonsense]\nurl = 'redis://u:{PASSWORD}@h'\n")
            command("status")
            system.config.write_text(text)
            system.assert_promises(events, [record])
            assert_next_run(system)

        assert len(shown) >= 3
        wait_until(lambda: sentry.bodies, message="Sentry was told")
        sent = b"".join(sentry.bodies).decode(errors="replace")

    left = {"outputs": "\n".join(outputs), "command lines": "\n".join(shown.values())}
    left |= {log.name: log.read_text(errors="replace") for log in tmp_path.rglob("*.log")}
    assert {(name, secret) for name, said in left.items() for secret in SECRETS if secret in said} == set()
    assert not [secret for secret in (PASSWORD, TOKEN) if secret in sent]
    assert os.environ["API_TOKEN"] == TOKEN
