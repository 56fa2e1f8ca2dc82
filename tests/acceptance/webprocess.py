"""`rlm web` as a process, for tests that make requests to it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from contextlib import contextmanager

import urllib3

from rlm.ledger.processes import Process, Role
from rlm.ledger.store import Store
from rlm.settings import load_settings
from tests.wait import wait_until

HTTP = urllib3.PoolManager(retries=False, timeout=20)


def port_of(log):
    """Wait until the process serves, and return its port."""
    served = re.compile(r"Serving http://[\d.]+:(\d+)/")
    return wait_until(lambda: served.search(log()), timeout=60, message="rlm web serves")[1]


def read(port, path="/metrics", **headers):
    return HTTP.request("GET", f"http://127.0.0.1:{port}{path}", headers=headers)


def rlm(*words, descriptors=None):
    """Return the command line of a process with a limit of file descriptors."""
    limit = ["bash", "-c", 'ulimit -n "$0"; exec "$@"', str(descriptors)] if descriptors else []
    return [*limit, sys.executable, "-m", "rlm", *words]


@contextmanager
def web(directory, redis_url, *options, descriptors=None, **env):
    """Run it alone on a Redis, with a limit of file descriptors; yield the process and its port."""
    log = directory / "web.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            rlm("web", *options, descriptors=descriptors),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=file,
            env={**os.environ, "REDIS_URL": redis_url, "RLM_WEB__LISTEN": "127.0.0.1:0", **env},
        )
    try:
        yield process, port_of(log.read_text)
    finally:
        process.kill()
        process.wait(20)


@contextmanager
def scheduler_alive(directory, redis_url):
    """Keep a scheduler in the register with a heartbeat, however slow this machine is."""
    ended = threading.Event()

    def beat():
        store.processes.announce(Role.SCHEDULER, Process("s", 1, "h", time.time()))

    def go_on():
        while not ended.wait(0.5):
            beat()

    with Store(load_settings(None, {"REDIS_URL": redis_url}), keeps_server=True) as store:
        beat()
        heart = threading.Thread(target=go_on)
        heart.start()
        try:
            yield
        finally:
            ended.set()
            heart.join()
            store.processes.forget(Role.SCHEDULER, "s")
