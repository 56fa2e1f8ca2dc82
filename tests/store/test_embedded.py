from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from rlm.core.errors import StoreError
from rlm.ledger import embedded
from rlm.ledger.connect import make_client
from rlm.ledger.embedded import EmbeddedServer, binary_path, running
from tests.wait import wait_until

pytestmark = pytest.mark.both_servers

USER = """
import sys
from pathlib import Path
from rlm.ledger.embedded import EmbeddedServer
with EmbeddedServer(Path(sys.argv[1])):
    print("uses it", flush=True)
    sys.stdin.read()
"""


class User:
    """A separate process that uses the server of a directory until `leave`."""

    def __init__(self, data_dir):
        command, pipe = [sys.executable, "-c", USER, str(data_dir)], subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, start_new_session=True)

    def await_server(self):
        assert self.process.stdout.readline() == "uses it\n"

    def leave(self):
        self.process.communicate()
        assert self.process.returncode == 0

    def end(self, number):
        """Send its process group a signal and wait for its end."""
        os.killpg(self.process.pid, number)
        self.process.communicate()


@pytest.fixture
def data_dir(tmp_path):
    """A directory for a server; one that a test left running in it is stopped."""
    directory = tmp_path / "rlm"
    yield directory
    if running(directory):
        with EmbeddedServer(directory):
            pass


def servers_of(directory):
    """Return the pids of the servers whose working directory is `directory`."""
    pids = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == directory and (entry / "exe").readlink() == binary_path():
                pids.append(int(entry.name))
        except OSError:  # it ended, or is not ours to look at
            continue
    return pids


def test_users_at_the_same_instant_start_one_server_and_the_last_to_leave_stops_it(data_dir):
    """It keeps its data."""
    users = [User(data_dir) for _ in range(3)]
    for user in users:
        user.await_server()
    with make_client(embedded.url_of(data_dir)) as client:
        client.set("k", "v")

    assert len(servers_of(data_dir)) == 1
    for user in users[:-1]:
        user.leave()
    assert running(data_dir)
    users[-1].leave()

    assert servers_of(data_dir) == []
    assert not (data_dir / "valkey.sock").exists()
    with EmbeddedServer(data_dir) as server, make_client(server.url) as client:
        assert client.get("k") == b"v"


def test_a_server_whose_directory_was_removed_is_ended_by_its_user_though_another_starts_the_next(
    data_dir, monkeypatch
):
    monkeypatch.setattr(embedded, "LOOK_SECONDS", 3.0)  # so that it is the other
    with EmbeddedServer(data_dir):
        (old,) = servers_of(data_dir)
        shutil.rmtree(data_dir)
        other = User(data_dir)
        other.await_server()
        wait_until(lambda: not Path(f"/proc/{old}/exe").exists(), message="the old one has ended")
        assert len(servers_of(data_dir)) == 1
        other.leave()


def test_in_a_deep_directory_the_socket_is_in_a_short_private_one(tmp_path):
    """It goes with the server, and somebody else's link in its place is refused."""
    data_dir = tmp_path / ("d" * 100)
    short = embedded.socket_path(data_dir).parent
    with EmbeddedServer(data_dir) as server, make_client(server.url) as client:
        assert client.config_get("dir")["dir"] == str(data_dir)
        assert stat.S_IMODE(short.stat().st_mode) == 0o700
    assert not short.exists()

    short.symlink_to(tmp_path)
    try:
        with pytest.raises(StoreError, match="is not a directory of user"), EmbeddedServer(data_dir):
            pass
    finally:
        short.unlink()


def test_nothing_is_open_to_others_unless_a_port_is_asked_for(data_dir):
    """Directory and socket are the owner's, whatever the umask, and whatever mode the directory had."""
    data_dir.mkdir()
    data_dir.chmod(0o755)
    before = os.umask(0)
    try:
        with EmbeddedServer(data_dir) as server, make_client(server.url) as client:
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (data_dir, data_dir / "valkey.sock")]
            listens = client.config_get("port") | client.config_get("bind")
    finally:
        os.umask(before)

    assert modes == [0o700, 0o700]
    assert listens == {"port": "0", "bind": "127.0.0.1"}  # tests/blackbox/test_embedded.py asks for a port
