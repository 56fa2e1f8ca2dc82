"""Whatever rlm.toml or the environment contains gives settings or a reported fault: no traceback, no hang."""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rlm.core.errors import ConfigurationError
from rlm.settings import Settings, load_settings
from tests.each import each

pytestmark = pytest.mark.rest

#: So long may one configuration take at the most, seconds; it is some milliseconds.
HANG_SECONDS = 5.0
KEYS = "redis queue run workers types budgets url prefix events failed target max rate_limit endpoints name headers A"
KEYS = (*KEYS.split(), "", "\x1b", "a.b")
TEXTS = st.one_of(
    st.text(max_size=30),
    st.sampled_from(("embedded", "redis://u:p@h:1", "30/minute", "env:X", "env:HOME", "http://h/", "http://[")),
    st.from_regex(r"[0-9]{1,30}( per |/)[0-9.]{0,20} ?(second|minute|hours?|x)[;,| ]*", fullmatch=True),
    st.from_regex(r"(redis|rediss|unix|redis\+sentinel|https?)://[!-~]{0,20}", fullmatch=True),
)
SCALARS = st.one_of(TEXTS, st.booleans(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)),
    max_leaves=12,
)
ENDPOINTS = st.lists(
    st.fixed_dictionaries(
        {"name": TEXTS, "url": TEXTS},
        optional={"rate_limit": TEXTS, "headers": st.dictionaries(st.text(max_size=5), TEXTS, max_size=2)},
    ),
    max_size=3,
)
TYPES = st.dictionaries(
    st.text(max_size=5), st.fixed_dictionaries({"rate_limit": TEXTS, "endpoints": ENDPOINTS}), max_size=2
)
VARIABLES = (
    "REDIS_URL SENTRY_DSN RLM_REDIS__URL RLM_RUN__TARGET RLM_TYPES__A__RATE_LIMIT RLM_TYPES__A__PRIORITY RLM_X__Y"
)

fuzzed = settings(max_examples=60, database=None)


def outcome(text: bytes, environ: dict[str, str]) -> str:
    """Load a configuration; return its faults, empty if there are none."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as directory:
        file = Path(directory) / "rlm.toml"
        file.write_bytes(text)
        try:
            assert isinstance(load_settings(file, environ), Settings)
        except ConfigurationError as error:
            return str(error)
        finally:
            assert time.process_time() - began < HANG_SECONDS
    return ""


def toml(value):
    """Return a value as TOML on one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(key)} = {toml(item)}" for key, item in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(toml, value))}]"
    return json.dumps(value).replace("Infinity", "inf")


def write(document):
    return "".join(f"{toml(key)} = {toml(value)}\n" for key, value in document.items()).encode()


@fuzzed
@given(st.binary(max_size=200))
@example(b"a = " + b"[" * 5000)
@example(b"a." * 5000 + b"b = 1")
@example(b"x = 1e999999999")
@example(b"x = " + b"9" * 5000)
@example(b"[run]\nwindow_seconds = " + b"9" * 400)
def test_any_bytes_as_a_file(text):
    if fault := outcome(text, {}):
        assert "rlm.toml" in fault


@fuzzed
@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5))
def test_any_values_of_any_kind_under_the_known_keys(document):
    outcome(write(document), {})


@fuzzed
@given(TYPES, st.dictionaries(st.text(max_size=5), st.fixed_dictionaries({"rate_limit": TEXTS}), max_size=2))
def test_any_types_endpoints_and_budgets(types, budgets):
    outcome(write({"types": types, "budgets": budgets}), {"X": "x\r\ny"})


@fuzzed
@given(st.dictionaries(st.sampled_from(VARIABLES.split()), st.one_of(TEXTS, st.floats().map(str)), max_size=4))
def test_any_value_of_any_variable(environ):
    outcome(b'[types.A]\nrate_limit = "1/second"\nendpoints = [{name = "a", url = "http://h/"}]\n', environ)


@each(
    "limit",
    [
        *("1" * 50_000, "1" * 50_000 + "x", "1 per " + "1" * 50_000, "1/" + "1" * 50_000 + "." + "1" * 50_000),
        *(" " * 50_000, "1" + " " * 50_000 + "/minute", "1/minute" + " " * 50_000 + "x", "1/" + "s" * 50_000),
        *("1 per" + " " * 50_000, ";" * 50_000, "1/minute;" * 5_000, "1/minute" + "s" * 50_000),
    ],
)
def test_no_limit_takes_long_to_refuse(limit):
    outcome(f'[types.A]\nrate_limit = "{limit}"\nendpoints = [{{name = "a", url = "http://h/"}}]\n'.encode(), {})
