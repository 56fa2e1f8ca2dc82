"""`uv run python -m tests.tables` writes those tables of docs/ whose content is in the code.

A table is found on its page by the first cell of its head, those with the same one by their order. What only the page
says stays as it is: a cell of None keeps what the page has in the row of the same first cell.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import get_args, get_origin

import click
import msgspec
from msgspec.structs import fields

from rlm.admin.conditions import KINDS, Examination
from rlm.cli.group import COMMANDS, rlm
from rlm.core import documents as of
from rlm.sandbox.demo import DemoVerdict
from rlm.settings.layers import FIRST, built_in_types, written
from rlm.settings.model import BudgetSettings, Document, EndpointSettings, TypeSettings, settings_of
from rlm.telemetry.metrics import METRICS

DOCS = Path(__file__).parents[1] / "docs"
SECTIONS = {name: each.section for name, each in settings_of(Document).items() if name not in {"types", "budgets"}}
#: The documents that commands print with `--json`.
PRINTED = {
    of.RunStatus: ("status",),
    of.Rest: ("status",),
    of.Started: ("start",),
    of.Record: ("status", "start", "result", "cancel"),
    of.Plan: ("start", "plan"),
    of.RunListed: ("list",),
    of.Worker: ("worker list",),
    of.EventView: ("explain",),
    of.ItemView: ("explain",),
    of.WaitingList: ("queue list",),
    of.QueueStats: ("queue stats",),
    of.QueueLook: ("queue monitor",),
    of.Pushed: ("queue push",),
    of.LetterGroup: ("failed list",),
    of.LettersDealt: ("failed retry", "failed drop"),
    of.EndpointView: ("endpoint list", "endpoint limit", "endpoint pause", "endpoint resume"),
    of.Share: ("endpoint share",),
    of.Compliance: ("compliance",),
    Examination: ("doctor",),
    DemoVerdict: ("demo", "test"),
}
TABLE = re.compile(r"^\| (.+?) \|.*\n\| ?---.*\n(?:\|.*\n)*", re.MULTILINE)


def code(names, otherwise="-"):
    return ", ".join(f"`{name}`" for name in names) or otherwise


def configuration():
    """Yield the tables of settings; the meaning of most is the comment in the file that `rlm init` writes."""
    comments = re.findall(r"((?:^# .*\n)+)# Allowed: ", (FIRST / "rlm.toml").read_text(), re.MULTILINE)
    meanings = iter(comment.replace("\n# ", " ").strip("# \n") for comment in comments)
    for section in (*SECTIONS.values(), TypeSettings, EndpointSettings, BudgetSettings):
        rows = [("key", "default", "allowed", "meaning")]
        for key, setting in settings_of(section).items():
            default = f"`{written(setting.default)}`".replace(".0`", "`")
            if setting.default is msgspec.NODEFAULT or setting.default in (None, {}):
                default = "required" if setting.default is msgspec.NODEFAULT else "none"
            rows.append((f"`{key}`", default, setting.allowed, next(meanings, None)))
        yield rows
    rows = [("type", "priority", "processing_seconds", "rate_limit", "endpoints")]
    for name, kind in built_in_types().items():
        values = (str(kind[key]) for key in rows[0][1:-1])
        rows.append((f"`{name}`", *values, code(endpoint["name"] for endpoint in kind["endpoints"])))
    yield rows


def runnable(command=rlm, *words):
    """Yield each command that can be run, by its name, in the order of the overview."""
    context = click.Context(command, info_name=" ".join(words))
    if not isinstance(command, click.Group):
        yield context
        return
    for name in COMMANDS if command is rlm else command.list_commands(context):
        yield from runnable(command.get_command(context, name), *words, name)


def commands():
    yield "command", "what it does", "options", "`--json`"
    for context in runnable():
        command, name = context.command, context.info_name
        usage = " ".join([name, *command.collect_usage_pieces(context)[1:]]).replace("|", "\\|")
        options = [each for each in command.params if each.opts[0][0] == "-" and not getattr(each, "hidden", False)]
        flags = [max(option.opts, key=len) for option in options]
        shown = code(flag for flag in flags if flag not in {"--config", "--debug", "--json"})
        otherwise = "keys" if "--json" in flags else "-"
        printed = code((kind.__name__ for kind, names in PRINTED.items() if name in names), otherwise)
        yield f"`rlm {usage}`", " ".join(command.help.partition("\n\n")[0].split()), shown, printed


def within(kind):
    """Return the documents in a type, and how a path goes on to them: `.NAME` into a mapping, `[]` into a list."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return [kind], ""
    inner = [within(each) for each in get_args(kind)]
    here = {Mapping: ".NAME", tuple: "[]", Sequence: "[]"}.get(get_origin(kind), "")
    return [each for kinds, _ in inner for each in kinds], here + "".join(path for _, path in inner)


def documents():
    """Return a row for each document that a command prints, and for those within them, by name."""
    kinds, rows = [*PRINTED], []
    for kind in kinds:
        above = [each for each in kind.__bases__ if each is not msgspec.Struct]
        keys = [f"those of `{each.__name__}`" for each in above]
        for field in fields(kind):
            if field.name in kind.__annotations__:
                inner, path = within(field.type)
                above += inner
                keys.append(f"`{field.encode_name}{path}`" + "".join(f" (`{each.__name__}`)" for each in inner))
        kinds += [each for each in dict.fromkeys(above) if each not in kinds]
        rows.append((f"`{kind.__name__}`", " ".join(kind.__doc__.split()), ", ".join(keys)))
    return [("document", "what it is", "keys"), *sorted(rows)]


def metrics():
    yield "metric", "kind", "labels", "unit", "what it is", "what is normal"
    for metric in METRICS:
        yield f"`{metric.name}`", metric.kind, code(metric.labels), None, metric.meaning, None


def conditions():
    yield "code", "severity", "what it means", "what to do"
    for name, kind in KINDS.items():
        remedy = kind.remedy.replace(", {limit},", "").replace("{fix}", "[by the cause](#by-the-cause)")
        yield f"`{name}`", kind.severity, kind.meaning, remedy.format(subject="NAME", name="NAME", run="ID", pid="PID")


def pages():
    """Yield each page that has such tables: its path, its text, and the text with the tables written anew."""
    tables = {
        "configuration.md": [*configuration()],
        "commands.md": [[*commands()], documents()],
        "metrics.md": [[*metrics()]],
        "operations.md": [[*conditions()]],
    }
    for name, rest in tables.items():

        def renewed(match, rest=rest):
            if not rest or match[1] != rest[0][0][0]:
                return match[0]
            old = {line.split(" | ")[0]: line.strip("| ").split(" | ") for line in match[0].splitlines()}
            head, *rows = map(list, rest.pop(0))
            for row in rows:
                by_hand = old.get(f"| {row[0]}", ["?"] * len(head))
                row[:] = [cell or by_hand[at] for at, cell in enumerate(row)]
            return "".join(f"| {' | '.join(row)} |\n" for row in [head, ["---"] * len(head), *rows])

        text = (DOCS / name).read_text(encoding="utf-8")
        yield DOCS / name, text, TABLE.sub(renewed, text)


if __name__ == "__main__":
    for page, _, text in pages():
        page.write_text(text, encoding="utf-8")
