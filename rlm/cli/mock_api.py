"""`rlm mock-api`: the API that enforces the configured limits strictly, in the foreground."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
import msgspec

from rlm import __version__
from rlm.cli.common import WholeNumber, config_option, examples
from rlm.cli.completing import mock_endpoints
from rlm.core.errors import ConfigurationError
from rlm.core.text import counted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from rlm.core.endpoint import EventType
    from rlm.sandbox.mockapi import EndpointSummary, MockApi


@click.command(
    "mock-api",
    epilog=examples(
        "rlm mock-api",
        "rlm mock-api --port 9000 --fail rebalance_api=0.05",
        "rlm mock-api --fault rebalance_api.down=true --log calls.jsonl",
    ),
)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option("--port", default=8090, show_default=True, type=WholeNumber(0, 65535), help="0 picks a free one.")
@config_option
@click.option("--log", "log_path", type=click.Path(path_type=Path), help="Append a JSON line per call to this file.")
@click.option(
    "--fail",
    multiple=True,
    metavar="ENDPOINT=RATE",
    shell_complete=mock_endpoints,
    help="Answer this share of its calls (0 to 1) with 500.",
)
@click.option(
    "--fault",
    multiple=True,
    metavar="ENDPOINT.FIELD=VALUE",
    shell_complete=mock_endpoints,
    help="Any fault, the value in JSON: down, outages, throttle, reset, hang, error_rate, status, slow,"
    " jitter_seconds, retry_after.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the summary at the end as JSON.")
def mock_api(
    *,
    host: str,
    port: int,
    config: Path | None,
    log_path: Path | None,
    fail: tuple[str, ...],
    fault: tuple[str, ...],
    as_json: bool,
) -> None:
    """Serve the configured endpoints, each with its limit enforced strictly by arrival.

    The path of each endpoint's URL answers POST: 200 after the type's processing_seconds, 429 with Retry-After above
    its limit or its budget's. An ENDPOINT is a name, or * for all. GET /_mock/log shows every call, GET /_mock/summary
    counts them by endpoint, GET /_mock/budgets by budget, and POST /_mock/faults with
    {"NAME": {"error_rate": 0.3, "status": 503}} replaces faults live; {"NAME": {}} ends them.
    Ends with SIGTERM or Ctrl-C.
    """
    from rlm.sandbox.mockapi import MockApi  # noqa: PLC0415 - a command loads what it needs when it runs
    from rlm.settings import load_settings  # noqa: PLC0415

    types = load_settings(config).event_types
    try:
        api = MockApi(types, host=host, port=port, log_path=log_path)
        for name, fields in _faults(fail, fault).items():
            api.set_fault(name, **fields)
        api.serve_forever(lambda: click.echo("\n".join(_boot_lines(api, types)), err=True))
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from error
    except OSError as error:
        raise click.UsageError(f"cannot write {error.filename}: {error.strerror}; choose another --log") from error
    summary = api.summary()
    click.echo(msgspec.json.encode(summary).decode() if as_json else _table(summary | api.budget_summary()))


def _faults(fail: Iterable[str], fault: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Gather the options by endpoint. What is said of all holds for one that has faults of its own, too."""
    named: dict[str, dict[str, Any]] = {"*": {}}
    for text in fail:
        name, _, rate = text.rpartition("=")
        _check(name and rate, f"{text!r} is not ENDPOINT=RATE, for example rebalance_api=0.3", "--fail")
        named.setdefault(name, {})["error_rate"] = _value(rate)
    for text in fault:
        key, _, value = text.partition("=")
        name, _, field = key.rpartition(".")
        _check(name and value, f"{text!r} is not ENDPOINT.FIELD=VALUE, for example rebalance_api.slow=3", "--fault")
        named.setdefault(name, {})[field] = _value(value)
    return {name: {**named["*"], **fields} for name, fields in named.items()}


def _check(right: object, message: str, option: str) -> None:
    if not right:
        raise click.BadParameter(message, param_hint=option)


def _value(text: str) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text  # a word, as in retry_after=date


def _boot_lines(api: MockApi, types: Sequence[EventType]) -> Iterator[str]:
    if api.open_to:
        yield (
            f"Warning: whoever reaches {', '.join(api.open_to)} can read the log of calls and change the faults, for "
            "there is no token; leave --host out to listen on 127.0.0.1 only"
        )
    yield f"rlm mock-api {__version__}, pid {os.getpid()}, serves {len(api.summary())} endpoints on {api.url}"
    urls = [urlsplit(one.url) for kind in types for one in kind.endpoints]
    if not any(one.port == urlsplit(api.url).port for one in urls):
        yield f"Warning: no endpoint of the configuration leads here; they lead to {urls[0].netloc} and the like"


def _table(summary: dict[str, EndpointSummary]) -> str:
    lines = [
        f"{name}: {counted(seen.calls, 'call')}, {seen.accepted} accepted, {seen.refused} refused, {seen.cut} cut,"
        f" at most {seen.most} in any period of {seen.limit}"
        for name, seen in summary.items()
        if seen.calls or seen.cut
    ]
    return "\n".join(lines) or "no calls"
