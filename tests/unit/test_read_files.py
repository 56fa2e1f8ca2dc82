"""What is read as a configuration: regular files of some size, in a time that does not grow by its square."""

from __future__ import annotations

import os
import time

import pytest
from click.testing import CliRunner

from rlm.cli.group import rlm
from rlm.core.errors import ConfigurationError
from rlm.settings import load_settings
from rlm.settings.layers import LARGEST_FILE
from tests.each import each

#: A file that takes longer is not read in a time that anybody waits.
SECONDS = 5.0
LONG = 100_000
URL = '[types.T]\nrate_limit = "1/second"\nendpoints = [{{ name = "a", url = "{}" }}]\n'


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
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rlm.toml").write_text("")
    (tmp_path / name).unlink(missing_ok=True)
    make(tmp_path / name)

    done = CliRunner().invoke(rlm, ["up"])

    assert done.exit_code == 2, done.output
    assert f"file {tmp_path / name}: cannot be read" in done.output


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
    config = tmp_path / "rlm.toml"
    config.write_text(text)
    before = time.process_time()

    with pytest.raises(ConfigurationError) as caught:
        load_settings(config, {})

    assert time.process_time() - before < SECONDS
    assert len(str(caught.value)) < 50_000
