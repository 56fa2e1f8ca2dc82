"""Who else could change a file: each step of its path, the sticky bit, groups, and what is not a file."""

from __future__ import annotations

import grp
import os
import pwd
import time
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.core import files
from rlm.core.errors import ConfigurationError, UnsafeError
from rlm.core.files import LARGEST_FILE, is_private_group, read_trusted, weakness
from rlm.ledger.connect import make_client
from rlm.settings import load_settings
from tests.each import each

#: A file that takes longer is not read in a time that anybody waits.
SECONDS = 5.0
LONG = 100_000
URL = '[types.T]\nrate_limit = "1/second"\nendpoints = [{{ name = "a", url = "{}" }}]\n'


@pytest.fixture
def file(tmp_path):
    """A file at the end of two directories."""
    (tmp_path / "a" / "b").mkdir(parents=True)
    path = tmp_path / "a" / "b" / "file"
    path.write_text("text")
    return path


def test_every_step_counts(file, tmp_path):
    """The file, each directory on the way, and those to which a link leads; the sticky bit keeps others out."""
    link = tmp_path / "link"
    link.symlink_to("a/b/../b/file")
    assert weakness(file) is None
    assert read_trusted(link) == b"text"

    for step in (file, file.parent, file.parent.parent):
        before = step.stat().st_mode
        step.chmod(0o777)
        for path in (file, link):
            found = weakness(path)
            assert found
            assert found.remedy == f"chmod go-w {step}"
            with pytest.raises(UnsafeError, match="chmod go-w"):
                read_trusted(path)
        if step.is_dir():
            step.chmod(0o1777)
            assert weakness(file) is None
        step.chmod(before)


def test_links_in_a_ring_end(tmp_path):
    """The file is not read, and nothing hangs."""
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")

    with pytest.raises(OSError, match="symbolic links"):
        weakness(tmp_path / "a")


def test_who_owns_it_counts(file, monkeypatch):
    """This user or root; somebody else is named."""
    owner = file.stat().st_uid
    monkeypatch.setattr(os, "geteuid", lambda: owner + 77)
    if owner == 0:
        assert weakness(file) is None
        os.chown(file, 64001, 64001)

    found = weakness(file)

    assert found
    assert "belongs to" in found.what
    assert "chown" in found.remedy


def test_nobody_writes_to_what_is_mounted_read_only(file, monkeypatch):
    """A ConfigMap of Kubernetes has mode 0777."""
    file.parent.chmod(0o777)
    assert weakness(file)

    monkeypatch.setattr(os, "statvfs", lambda _path: SimpleNamespace(f_flag=os.ST_RDONLY))

    assert weakness(file) is None


@pytest.mark.parametrize(
    ("group", "members", "primary", "private"),
    [
        ("ann", [], [(1000, 1000)], True),
        ("ann", ["ann"], [(1000, 1000)], True),
        ("ann", ["ann", "bob"], [(1000, 1000)], False),
        ("users", [], [(1000, 1000)], False),
        ("ann", [], [(1000, 1000), (1001, 1000)], False),
        (None, [], [(1000, 1000)], True),
        (None, [], [(1000, 1000), (1001, 1000)], False),
    ],
)
def test_a_group_is_private_if_nobody_else_is_in_it(monkeypatch, group, members, primary, private):
    """By its name, its members, and those whose first group it is."""
    users = [SimpleNamespace(pw_uid=uid, pw_gid=gid) for uid, gid in primary]
    monkeypatch.setattr(pwd, "getpwall", lambda: users)
    monkeypatch.setattr(files, "user_name", lambda _uid: "ann")

    def getgrgid(_gid):
        if group is None:
            raise KeyError
        return SimpleNamespace(gr_name=group, gr_mem=members)

    monkeypatch.setattr(grp, "getgrgid", getgrgid)

    assert is_private_group(1000, 1000) is private


def _pipe(path):
    os.mkfifo(path)


def _device(path):
    path.symlink_to("/dev/zero")


def _directory(path):
    path.mkdir()


def _large(path):
    path.write_bytes(b"#" * (LARGEST_FILE + 1))


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["rlm.toml", "Procfile", ".env"])
@pytest.mark.parametrize("make", [_pipe, _device, _directory, _large], ids=lambda one: one.__name__)
def test_only_a_file_of_some_size_is_read(tmp_path, monkeypatch, name, make):
    """A pipe is not waited for, a device is not read without end; the command ends with exit code 2."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rlm.toml").write_text("")
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)

    done = CliRunner().invoke(rlm, ["up"])

    assert done.exit_code == 2, done.output
    assert f"file {tmp_path / name}: cannot be read" in done.output


@pytest.mark.timeout(30)
@pytest.mark.parametrize("parameter", ["ssl_ca_certs", "ssl_certfile", "ssl_keyfile"])
def test_no_pipe_is_read_as_a_certificate(tmp_path, parameter):
    """Whoever connects would wait for it."""
    os.mkfifo(tmp_path / "ca.pem")

    with pytest.raises(UnsafeError, match="it is a pipe"):
        make_client(f"rediss://h/0?{parameter}={tmp_path / 'ca.pem'}")


@pytest.mark.timeout(60)
@each(
    "text",
    [
        "[run]\n" + "window_seconds" * (LONG // 14) + " = 1\n",
        f'[redis]\nurl = "{"a" * LONG}"\n',
        f'[redis]\nurl = "redis://h/0?{"a=b&" * LONG}"\n',
        f'[redis]\nurl = "redis+sentinel://{"a:1," * LONG}?x"\n',
        URL.format("http://h/" + "a?" * LONG),
        URL.format("a" * LONG),
        "[run]\n" + "".join(f"k{number} = 1\n" for number in range(LONG // 5)),
        "".join(f"[types.t{number}]\n" for number in range(LONG // 30)),
        '"\\"' * LONG,
        '"' * LONG,
        "a" * LONG * 9,
    ],
)
def test_a_long_key_or_value_takes_no_time(tmp_path, text):
    """It is a fault in few words, found in a time that does not grow by its square."""
    config = tmp_path / "rlm.toml"
    config.write_text(text)
    before = time.process_time()

    with pytest.raises(ConfigurationError) as caught:
        load_settings(config, {})

    assert time.process_time() - before < SECONDS
    assert len(str(caught.value)) < 50_000
