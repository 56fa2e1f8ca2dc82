"""What no code of RLM may do, because it would open a hole."""

from __future__ import annotations

import ast
from pathlib import Path

import dramatiq
import pytest

import actors.worker  # noqa: F401  # what a worker process imports
from tests.each import each

ROOT = Path(__file__).parents[2]
SOURCES = [path for package in ("rlm", "actors", "scheduler") for path in sorted((ROOT / package).rglob("*.py"))]
#: Reading with these runs what was written.
MODULES = {"pickle", "marshal", "shelve", "yaml", "dill"}
CALLS = {"eval", "exec", "compile", "__import__"}


@each("path", SOURCES)
def test_nothing_from_outside_is_ever_run(path):
    """No pickle, no `eval`, no shell, and no check of a certificate turned off."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                assert not MODULES & {name.name.partition(".")[0] for name in names}
            case ast.ImportFrom(module=str(module)):
                assert module.partition(".")[0] not in MODULES
            case ast.Call(func=ast.Name(id=name)):
                assert name not in CALLS, name
            case ast.Call(func=ast.Attribute(attr="eval" | "system" | "popen" as name)):
                pytest.fail(name)
            case ast.keyword(arg="shell" | "verify" | "cert_reqs" | "ssl_cert_reqs" | "ssl_check_hostname" as name):
                pytest.fail(name)


def test_messages_are_json():
    """What a worker fetches is decoded, never unpickled."""
    assert type(dramatiq.get_encoder()) is dramatiq.JSONEncoder
