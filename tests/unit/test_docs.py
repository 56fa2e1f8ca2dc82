"""README and docs describe everything that exists, and nothing else."""

from __future__ import annotations

import re
import subprocess
import tomllib
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from rlm.admin.conditions import KINDS
from rlm.admin.planning import capacity_of, plan_run
from rlm.cli.group import rlm
from rlm.plan.situation import Workload
from rlm.settings import load_settings
from rlm.settings.layers import FIRST
from rlm.settings.model import BudgetSettings, EndpointSettings, TypeSettings, settings_of
from tests.each import each
from tests.tables import SECTIONS, pages

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = [README, *sorted((ROOT / "docs").rglob("*.md"))]
#: Put together here so that this file does not hold them itself.
REGISTRIES = ("pypi" + ".org", "pythonhosted" + ".org", "registry." + "npmjs", "proxy.golang" + ".org")
LOCK = "uv" + ".lock"
MACHINE_PATHS = ("/" + "work/", "../" + "shared", "/" + "home/", "/" + "root/")
#: The folders that belong to the project.
FOLDERS = "rlm|actors|scheduler|tests|benchmarks|docs"

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"`([^`\n]+)`")
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


@dataclass(frozen=True)
class Page:
    """A parsed Markdown page."""

    path: Path

    @property
    def text(self):
        return self.path.read_text(encoding="utf-8")

    @property
    def blocks(self):
        return [(match[1], match[2]) for match in _FENCE.finditer(self.text)]

    @property
    def prose(self):
        return _FENCE.sub("", self.text)

    @property
    def spans(self):
        """The texts in backticks."""
        return _SPAN.findall(self.prose)

    @property
    def commands(self):
        """Every use of `rlm`, in backticks or in a block of shell, as its words."""
        shell = [line for kind, block in self.blocks if kind == "sh" for line in block.splitlines()]
        for text in [*self.spans, *shell]:
            for part in re.split(r"&&|\|(?!\w)", text.partition("  #")[0]):
                words = part.split()
                words = words[2:] if words[:2] == ["uv", "run"] else words
                if words[:1] == ["rlm"] and words[1:] != ["..."]:
                    yield [word.strip("[].") for word in words[1:]]

    @property
    def anchors(self):
        titles = re.findall(r"^#+ (.+)$", self.prose, re.MULTILINE)
        return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


BOOK = [Page(path) for path in PAGES]
each_page = each("page", BOOK)


def find_command(words):
    """Return the command that `words` begin with, and its own words."""
    command, used = rlm, []
    context = click.Context(rlm)
    for word in words:
        if not isinstance(command, click.Group) or word.startswith("-"):
            break
        found = command.get_command(context, word)
        assert found is not None, f"`rlm {' '.join(words)}`: there is no {' '.join([*used, word])!r}"
        command, used = found, [*used, word]
    return command, tuple(used)


def flags_of(command):
    flags = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
    return flags | {"--help", "-h"} | ({"--version"} if command is rlm else set())


def settings_keys():
    return {f"{name}.{key}" for name, section in SECTIONS.items() for key in settings_of(section)}


def project_files():
    """Return the files that git knows, or would."""
    done = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
        cwd=ROOT,
    )
    found = [ROOT / name for name in done.stdout.decode().split("\0") if name]
    return [path for path in found if path.is_file()]


# -- tables and commands


@each(("path", "text", "renewed"), pages())
def test_every_table_says_what_the_code_says(path, text, renewed):
    """Settings, commands, documents, metrics, conditions, each with its names, in its order and its words."""
    assert text == renewed, f"{path.name}: `uv run python -m tests.tables` writes its tables"
    assert "| ? |" not in text, f"{path.name}: write the meaning that `tests.tables` does not know"


def test_a_remedy_is_a_command_a_setting_or_a_thing_by_name():
    """Something in backticks, a path, or what the cause asks for; never a look at another line."""
    for code, kind in KINDS.items():
        assert re.search(r"`|/|\{fix\}|it ends|keep a copy", kind.remedy), code
        assert not re.search(r"see above|find out", kind.remedy), code


@each_page
def test_every_command_shown_exists(page):
    """What a page calls a command of `rlm` is one, with the options it is shown with."""
    for words in page.commands:
        command, used = find_command(words)
        flags = {word.partition("=")[0] for word in words[len(used) :] if word.startswith("-") and word != "-"}
        assert flags - flags_of(command) == set(), f"rlm {' '.join(words)}"


# -- settings


def test_every_setting_has_its_section_and_the_first_file_its_default():
    """docs/configuration.md has the sections in their order, and the file of `rlm init` every setting."""
    page = (DOCS / "configuration.md").read_text()
    text = (FIRST / "rlm.toml").read_text()
    shown = tomllib.loads(re.sub(r"^# (\w+ = )", r"\1", text.partition("\n[types.")[0], flags=re.MULTILINE))
    sections = (*SECTIONS.values(), TypeSettings, EndpointSettings, BudgetSettings)

    assert re.findall(r"^## `\[(\w+)(?:\.NAME)?\]`$", page, re.MULTILINE) == [*SECTIONS, "types", "budgets"]
    assert shown == {
        name: {key: each.default for key, each in settings_of(SECTIONS[name]).items()} for name in SECTIONS
    }
    assert re.findall(r"^# Allowed: (.*)\.$", text, re.MULTILINE) == [
        setting.allowed for section in SECTIONS.values() for setting in settings_of(section).values()
    ]
    assert sum(len(settings_of(section)) for section in sections) <= 40, "too many to know: take one away"


@each_page
def test_every_setting_named_exists(page):
    """`section.key` in backticks is a setting."""
    sections = "|".join(SECTIONS)
    named = {match[0] for span in page.spans if (match := re.match(rf"(?:{sections})\.[a-z_]+\b", span))}

    assert {name for name in named if not name.endswith((".py", ".yaml"))} - settings_keys() == set()


@each_page
def test_every_variable_named_exists(page):
    """`RLM_SECTION__KEY` in backticks or in a block overrides a setting."""
    known = {f"RLM_{key.upper().replace('.', '__')}" for key in settings_keys()}
    named = set(re.findall(r"\bRLM_[A-Z]+__[A-Z_]+\b", page.text))

    assert {name for name in named if not name.startswith(("RLM_TYPES__", "RLM_BUDGETS__"))} - known == set()


@pytest.mark.parametrize("path", [README, DOCS / "quickstart.md"], ids=lambda path: path.name)
def test_the_configuration_shown_is_right(tmp_path, path):
    """Every block of TOML in the README and the quickstart is a configuration that loads."""
    blocks = [block for kind, block in Page(path).blocks if kind == "toml"]
    assert blocks

    for block in blocks:
        file = tmp_path / "rlm.toml"
        file.write_text(block)
        load_settings(file, {})


# -- set-up, links, places


@each_page
def test_every_link_leads_somewhere(page):
    """A link to a file finds it, one to a heading finds that too."""
    for target in _LINK.findall(page.prose):
        if target.startswith("https://"):
            continue
        name, _, anchor = target.partition("#")
        path = (page.path.parent / name).resolve() if name else page.path
        assert path.is_file(), target
        assert not anchor or anchor in Page(path).anchors, target


@each_page
def test_every_file_named_exists(page):
    """A path into the project in backticks is one."""
    paths = {span for span in page.spans if re.fullmatch(rf"({FOLDERS})/[\w./-]*", span)}

    assert {path for path in paths if not (ROOT / path).exists()} == set()


# -- the worked example


def test_the_run_worked_out_by_hand_is_what_the_plan_computes():
    """The timeline of docs/quickstart.md has the plan's fillings, end, bound and number of workers, to a tenth."""
    settings = load_settings(None, {})
    workload = Workload({"OPEN_ORDER_DETECTED": 150}, settings.event_types)
    plan = plan_run(settings, workload, capacity_of(settings), 0.0, settings.run.window_seconds)
    text = Page(DOCS / "quickstart.md").text
    rows = re.findall(r"^\| 12:(\d+):([\d.]+) \| ([\d.]+) \| (\d+) \|", text, re.MULTILINE)

    said = re.search(rf"{plan.workers} worker of {plan.threads} lanes, done ([\d.]+) s after the first call", text)
    assert said
    assert float(said[1]) == pytest.approx(plan.forecast_seconds, abs=0.1)
    assert f"before {plan.lower_bound_seconds:.1f} s" in text
    assert [release.at_seconds for release in plan.releases] == pytest.approx([0.0, 6.0, 12.0, 18.1, 60.5], abs=0.1)
    for at, slots in [("0.0", 5), ("6.0", 35), ("23.0", 120), ("60.5", 125), ("66.5", 150)]:
        assert (at, str(slots)) in [(row[2], row[3]) for row in rows]
    for minute, second, after, _ in rows:  # the clock column is the first call's time and the seconds since
        assert 60 * int(minute) + float(second) == pytest.approx(180.3 + float(after))


# -- the project's own rules


def test_no_file_names_a_registry_the_lock_file_or_a_place_on_one_machine():
    """Where packages come from is the installer's business; the lock file, which says so, is not kept."""
    wrong = []
    for path in project_files():
        text = path.read_text(encoding="utf-8", errors="replace")
        allowed = path.name in {".gitignore", "pyproject.toml"}
        wrong += [(path.name, name) for name in (*REGISTRIES, *MACHINE_PATHS) if name in text]
        wrong += [(path.name, LOCK)] if LOCK in text and not allowed else []

    assert wrong == []


@each("name", ["reliability.md", "security.md"])
def test_every_promise_names_its_tests(name):
    """Each row of what is promised or protected has at least one."""
    table = re.search(r"^\|.* test \|\n\|-.*\n((?:\|.*\n)+)", (DOCS / name).read_text(), re.MULTILINE)[1]

    assert [row for row in table.splitlines() if "`tests/" not in row] == []
