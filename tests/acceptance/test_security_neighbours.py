"""Two users of one host: nobody reads, writes or runs anything of the other, and an honest one notices nothing.

The files of the other user are made here and given to a user id without an account. Root runs RLM, the worst case,
because no permission stops it.
"""

from __future__ import annotations

import fcntl
import os
import socket
import stat
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.core.errors import ArchiveError
from rlm.ledger.embedded import EmbeddedServer, running
from rlm.ledger.letters import archive
from rlm.settings import load_settings

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="files are given to another user, which only root can do"),
    pytest.mark.timeout(60),
]

OTHER = 64001
NOVEMBER = 1_795_600_000.0
TYPE = '[types.T]\nrate_limit = "1/second"\nendpoints = [{ name = "a", url = "http://127.0.0.1:9/a" }]\n'


def give(path, uid=OTHER):
    """Give `path` itself, not its target, to another user."""
    os.chown(path, uid, uid, follow_symlinks=False)


def run(*words, code=None):
    done = CliRunner().invoke(rlm, words)
    assert code in {None, done.exit_code}, (words, done.exit_code, done.output, done.exception)
    return done


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The current directory of RLM's user, in which everybody may make files, like /tmp."""
    place = tmp_path / "folder"
    place.mkdir()
    place.chmod(0o1777)
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def victim(tmp_path):
    """A directory of root with a file in it; neither may change."""
    place = tmp_path / "victim"
    place.mkdir(mode=0o755)
    file = place / "passwd"
    file.write_text("root")
    yield file
    assert file.read_text() == "root"
    assert [entry.name for entry in place.iterdir()] == ["passwd"]
    assert stat.S_IMODE(place.stat().st_mode) == 0o755


@contextmanager
def listener(path):
    """Run a server at a socket that nobody may connect to."""
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        server.setblocking(False)
        yield
        with pytest.raises(BlockingIOError):
            server.accept()


# -- the data directory


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_a_data_directory_that_another_made_is_refused(folder, victim, kind):
    """With what is in it: no link is followed, no server started, and doctor names it."""
    data_dir = folder / ".rlm"
    if kind == "link":
        data_dir.symlink_to(victim.parent)
    else:
        data_dir.mkdir()
        for name in ("valkey.log", "server.lock", "users.lock"):
            (data_dir / name).symlink_to(victim)
    give(data_dir)

    refused = run("scheduler", code=2)

    assert str(data_dir) in refused.output
    assert kind == "link" or str(OTHER) in refused.output


def test_the_archive_follows_no_link_in_the_data_directory(tmp_path, victim):
    """Whoever made it."""
    data_dir = tmp_path / ".rlm"
    data_dir.mkdir(mode=0o700)
    (data_dir / "archive").symlink_to(victim.parent)

    with pytest.raises(ArchiveError, match="link"):
        archive(data_dir / "archive", [b"{}"], NOVEMBER)


# -- sockets


def test_no_command_asks_a_server_of_another(folder):
    """The other holds the lock of a server, and listens."""
    data_dir = folder / ".rlm"
    data_dir.mkdir()
    with listener(data_dir / "valkey.sock"), (data_dir / "server.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        give(data_dir)

        assert not running(data_dir)


# -- configuration, .env, Procfile


def by_another(path):
    give(path)


def open_to_all(path):
    path.chmod(0o666)


WEAK = [by_another, open_to_all]


@pytest.fixture
def etc(tmp_path, monkeypatch):
    """The current directory, which belongs to root alone."""
    place = tmp_path / "etc"
    place.mkdir(mode=0o755)
    monkeypatch.chdir(place)
    return place


@pytest.mark.parametrize("weaken", WEAK, ids=lambda one: one.__name__)
def test_a_configuration_that_another_could_change_is_refused(etc, tmp_path, weaken):
    """Nothing is sent to the Redis that it names; the message has what mends it, and doctor and `config check` too."""
    config = etc / "rlm.toml"
    with listener(tmp_path / "redis.sock"):
        config.write_text(f'[redis]\nurl = "unix://{tmp_path / "redis.sock"}"\n')
        load_settings(config, {})
        weaken(config)

        for words in (("queue", "stats"), ("status", "--config", str(config)), ("config", "check"), ("up",)):
            output = run(*words, code=2).output
            assert f"file {config}: " in output
            assert "chmod" in output or "chown" in output

    assert not (etc / ".rlm").exists()


@pytest.mark.parametrize("name", ["Procfile", ".env"])
@pytest.mark.parametrize("weaken", WEAK, ids=lambda one: one.__name__)
def test_no_command_and_no_variable_of_another_is_taken(etc, name, weaken):
    """Beside a configuration that is ours."""
    (etc / "rlm.toml").write_text(TYPE)
    path = etc / name
    path.write_text("a: touch ran; sleep 60\n" if name == "Procfile" else "REDIS_URL=redis://127.0.0.1:1\n")
    weaken(path)

    refused = run("up", code=2)

    assert f"file {path}: " in refused.output
    assert not (etc / "ran").exists()


@pytest.mark.parametrize("is_there", [True, False])
def test_init_writes_through_no_link(folder, victim, is_there):
    """Whether what it leads to exists or not."""
    target = victim if is_there else victim.with_name("nobody")
    (folder / "rlm.toml").symlink_to(target)

    run("init", code=0)

    assert (folder / "rlm.toml").is_symlink()
    assert target.exists() is is_there


# -- the honest


def test_the_defaults_need_no_file(folder):
    """In /tmp, beside everybody else's files, the server of one user is that one's alone."""
    give(Path(tempfile.mkdtemp(dir=folder)))
    before = os.umask(0)
    try:
        with EmbeddedServer(folder / ".rlm"):
            modes = {stat.S_IMODE(path.stat().st_mode) for path in (folder / ".rlm").iterdir() if path.is_file()}
    finally:
        os.umask(before)

    assert stat.S_IMODE((folder / ".rlm").stat().st_mode) == 0o700
    assert modes <= {0o600}
    run("config", "check", code=0)
