"""`rlm init`: first files, which load as they are, and never replace an existing one."""

from __future__ import annotations

import errno
import io
import json
import re
import tomllib

import pytest
from click.testing import CliRunner
from honcho.environ import parse_procfile

from rlm.cli.group import COMMANDS, rlm
from rlm.settings import load_settings
from rlm.settings.model import SECTIONS, BudgetSettings, EndpointSettings, SuccessSettings, TypeSettings
from rlm.settings.section import settings_of
from rlm.settings.sources import parse_dotenv
from rlm.settings.template import first_files

FILES = [".env.example", "Procfile", "rlm.toml"]
TEXTS = first_files()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty directory, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*words, code=0, answer=""):
    """Run a command in this process, which ends with `code`."""
    done = CliRunner().invoke(rlm, words, input=answer)
    assert done.exit_code == code, done.output
    return done


def test_it_writes_what_loads_as_it_is(place):
    """Three files; the configuration can be used, and is the built-in one."""
    # The built-in configuration
    built_in = load_settings(None, {})

    said = run("init").stdout

    assert sorted(path.name for path in place.iterdir()) == FILES
    assert (place / ".env.example").stat().st_mode & 0o777 == 0o600
    assert f"ok  The configuration {place}/rlm.toml" in run("config", "check").stdout
    assert load_settings(place / "rlm.toml", {}).revision == built_in.revision
    assert [word for word in re.findall(r"rlm ([a-z-]+)", said) if word not in COMMANDS] == []
    assert all(f"rlm {command}" in said for command in ("mock-api", "up", "queue push", "start --wait", "result"))
    assert max(map(len, said.splitlines())) <= 80


def test_what_is_there_is_kept(place):
    """And said; the others are written."""
    # A file of somebody's own
    (place / "rlm.toml").write_text("# mine\n")

    said = run("init").stdout
    found = json.loads(run("init", "--json").stdout)

    assert (place / "rlm.toml").read_text() == "# mine\n"
    assert "kept     rlm.toml" in said
    assert (place / "Procfile").exists()
    assert found == {
        "directory": str(place),
        "written": [],
        "kept": ["rlm.toml", "Procfile", ".env.example"],
        "dry_run": False,
    }


def test_force_asks_before_it_overwrites(place):
    """No means no, nobody there means no, `--yes` means yes."""
    # A file of somebody's own
    (place / "rlm.toml").write_text("# mine\n")

    refused = [run("init", "--force", code=1, answer=answer) for answer in ("n\n", "")]

    assert all("Overwrite 1 file" in done.stderr and "Nothing was written" in done.stderr for done in refused)
    assert [path.name for path in place.iterdir()] == ["rlm.toml"]
    run("init", "--force", "--yes")
    assert (place / "rlm.toml").read_text() == TEXTS["rlm.toml"]


class CtrlC(io.RawIOBase):
    """A terminal at which somebody presses Ctrl-C."""

    def readable(self):
        """Return that it can be read."""
        return True

    def readinto(self, _buffer):
        """Be interrupted."""
        raise KeyboardInterrupt


def test_ctrl_c_at_the_question_is_an_interruption(place):
    """Not a no: the exit code is that of any command that is interrupted, and what is there stays."""
    # Given a file of somebody's own
    (place / "rlm.toml").write_text("# mine\n")

    # When they press Ctrl-C at the question
    done = CliRunner().invoke(rlm, ("init", "--force"), input=io.BufferedReader(CtrlC()))

    # Then the command was interrupted
    assert done.exit_code == 130
    assert done.stderr.endswith("Nothing was written.\n")
    assert (place / "rlm.toml").read_text() == "# mine\n"


def test_a_dry_run_writes_nothing(place):
    """What would be written is printed, on stdout alone."""
    done = run("init", "new", "--dry-run")

    assert list(place.iterdir()) == []
    assert TEXTS["rlm.toml"] in done.stdout
    assert "new/rlm.toml would be written" in done.stderr


def test_another_directory_is_made(place):
    """And the person is told to go there."""
    said = run("init", "a/b c").stdout

    assert sorted(path.name for path in (place / "a" / "b c").iterdir()) == FILES
    assert "cd 'a/b c'" in said


def test_a_directory_that_cannot_be_written_is_told(place):
    """In a sentence, exit 1."""
    (place / "file").write_text("")

    assert "choose another DIRECTORY" in run("init", "file/below", code=1).stderr


def test_the_template_has_every_setting():
    """Commented out with its default, or explained above the types; taken at its word, it still loads."""
    # The template, and the same with every default no comment any more
    text = TEXTS["rlm.toml"]
    bold = re.sub(r"^# (\w+ = .*)$", r"\1", text, flags=re.MULTILINE).replace('rate_limit = "50/minute"', "")

    for name, section in SECTIONS.items():
        assert set(tomllib.loads(bold)[name]) == set(settings_of(section))
    for table in (TypeSettings, EndpointSettings, SuccessSettings, BudgetSettings):
        assert all(f"#   {key}: " in text for key in settings_of(table))


def test_the_template_taken_at_its_word_is_the_default(tmp_path):
    """What is commented out is what holds without it."""
    # A file in which nothing is commented out
    path = tmp_path / "bold.toml"
    head, types = TEXTS["rlm.toml"].split("\n# The types of events")
    path.write_text(re.sub(r"^# (\w+ = .*)$", r"\1", head, flags=re.MULTILINE) + "\n# The types of events" + types)

    shown = {one.key: one.value for one in load_settings(path, {}).shown}

    assert shown == {one.key: one.value for one in load_settings(None, {}).shown}


def test_procfile_and_environment_are_read_by_up():
    """The Procfile has the three processes, and the variables are what `rlm up` and a shell make of them."""
    # An environment in which nothing is commented out
    bold = re.sub(r"^# ([A-Z_]+=.*)$", r"\1", TEXTS[".env.example"], flags=re.MULTILINE)

    assert list(parse_procfile(TEXTS["Procfile"]).processes) == ["scheduler", "supervisor", "web"]
    variables = parse_dotenv(bold)
    assert variables["API_AUTHORIZATION"] == "Bearer TOKEN"
    assert {"RLM_CONFIG", "REDIS_URL", "SENTRY_DSN", "RLM_RUN__TARGET"} <= set(variables)


def test_a_file_is_overwritten_whole_or_not_at_all(place, monkeypatch):
    """A full disk costs nobody a configuration; one that is overwritten keeps its mode."""
    (place / "rlm.toml").write_text("# mine\n")
    (place / "rlm.toml").chmod(0o600)

    def is_full(*_args, **_options):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr("pathlib.Path.replace", is_full)
        run("init", "--force", "--yes", code=1)
    kept = sorted(path.name for path in place.iterdir()), (place / "rlm.toml").read_text()
    run("init", "--force", "--yes")

    assert kept == (["rlm.toml"], "# mine\n")
    assert "[redis]" in (place / "rlm.toml").read_text()
    assert (place / "rlm.toml").stat().st_mode & 0o777 == 0o600
