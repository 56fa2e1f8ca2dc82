"""The reference of all settings, docs/configuration.md, made from what the settings are described with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticUndefined

from rlm.settings.defaults import built_in_types
from rlm.settings.document import SECTIONS
from rlm.settings.fields import words
from rlm.settings.model import BudgetSettings, EndpointSettings, TypeSettings
from rlm.settings.toml import toml_value
from rlm.settings.values import RESERVED_HEADERS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from pydantic import BaseModel

_INTRODUCTION = """\
# Configuration

Every setting has a default, so RLM runs without a file. This page is generated from the code that reads the settings
(`configuration_reference()` in `rlm/settings/reference.py`).

## Which file is read

1. the file given with `--config`,
2. else the one that the variable `RLM_CONFIG` names,
3. else `rlm.toml` in the current directory, if there is one,
4. else none: the defaults hold.

A file that was named and does not exist is an error. The file is TOML in UTF-8. What it does not set keeps its default,
with one exception: a file that has a `[types.*]` table replaces all the built-in types.

The embedded server and RLM's own files live in `.rlm` beside the configuration file, without one in the current
directory.

## Environment variables

Any single value of a section can be overridden, whatever the file says, by a variable `RLM_<SECTION>__<KEY>`, with two
underscores between section and key:

```sh
RLM_WORKERS__MAX=4
RLM_RUN__GUARD_SECONDS=0.25
RLM_TYPES__REBALANCE_NEEDED__RATE_LIMIT=20/minute
RLM_BUDGETS__ACCOUNT__RATE_LIMIT=50/minute
```

For a type or a budget, its name stands between: upper case, and `_` for any `-` and `.` in it. Endpoints are set in the
file only.
A variable with two underscores that matches no setting is an error, so that a typing mistake does not go unnoticed.

| variable | meaning |
|---|---|
| `RLM_CONFIG` | the configuration file, where `--config` names none |
| `REDIS_URL` | sets `redis.url`; `RLM_REDIS__URL` goes before it |
| `SENTRY_DSN` | where errors and alarms are reported; unset or empty: nowhere |
| `SENTRY_ENVIRONMENT`, `SENTRY_RELEASE` | of what; unset or empty: `production`, and `rlm@` and the version |
| `RLM_LOG` | the level from which on log lines are written: `DEBUG`, `INFO` (unset), `WARNING` or `ERROR` |
| `RLM_LOG_FORMAT` | their form, as `--log-format`: `text`, `json`, `auto` (unset): text on a terminal, JSON elsewhere |
| `NO_COLOR`, `FORCE_COLOR` | no colours on a terminal; colours elsewhere; `NO_COLOR` goes before the other |

An empty `RLM_CONFIG`, `REDIS_URL` or `SENTRY_DSN` counts as unset.

## When something is wrong

Every command stops with exit code 2 and says, a line for each fault, which file and line or which variable, which key,
what value and what is allowed. All faults are reported at once (of more than 100 the first), and a misspelt key with
the one that was probably meant:

```text
/etc/rlm.toml:12: run.target = 1.5: must be a number above 0, at most 1
environment RLM_WORKERS__MAX: workers.max = "many": must be a whole number from 1 to 1000
```

Durations end in `_seconds` and take fractions. Numbers are written without quotes in the file.
"""

_TYPES = """\
## `[types.NAME]`

A type of events, one table each. NAME is what the items' `events` say, of 1 to 100 letters, digits and `_`, `.`, `-`
(quote a name with a dot: `[types."a.b"]`). Adding a type is adding a table.

```toml
[types.REBALANCE_NEEDED]
priority = 5
processing_seconds = 2.0
rate_limit = "30/minute"
endpoints = [
  { name = "rebalance_api", url = "https://api.example.com/rebalance" },
  { name = "rebalance_spare", url = "https://spare.example.com/rebalance", rate_limit = "1 per 0.5 second; 99/hour" },
]
```
"""

_ENDPOINTS = """\
### `endpoints`

The first is the primary, the others take the overflow.
"""

_SHARING = """\
Throughout the file one name stands for one URL, one URL has one name, and it has one limit and one budget: anything
else is an error. Several types may share an endpoint by giving the same name, URL, limit and budget. Scheme and host of
a URL are read in lower case, and the scheme's own port and a missing path (`/`) make no difference.
"""

_BUDGETS = """\
## `[budgets.NAME]`

A limit that several endpoints share because they hang on one account of the API's provider, one table each. NAME is as
a type's, and no endpoint's. A call to an endpoint that names it needs a slot in the endpoint's own window and one in
the budget's; it takes both or neither. Calls of the time before an endpoint named the budget count as well.

```toml
[budgets.account]
rate_limit = "50/minute"

[types.REBALANCE_NEEDED]
rate_limit = "30/minute"
endpoints = [
  { name = "rebalance_api", url = "https://api.example.com/rebalance", budget = "account" },
  { name = "positions_api", url = "https://api.example.com/positions", budget = "account" },
]
```

An endpoint that names a budget which is not there is an error, and so is a budget that no endpoint names.
"""

_SECRETS = f"""\
### Secrets in headers

A header's value may be `env:NAME`. The value of the variable NAME is read when a call is sent. It is never stored,
logged or shown, nor sent to Sentry. NAME has to be set wherever a command of RLM runs; if it is not, that is a fault of
the configuration.

```toml
endpoints = [
  {{ name = "a", url = "https://api.example.com/a", headers = {{ Authorization = "env:API_AUTHORIZATION" }} }},
]
```

Any other value is sent as it stands and shown masked. Reserved, because RLM sets them itself:
{", ".join(f"`{name}`" for name in RESERVED_HEADERS)}.
"""


def configuration_reference() -> str:
    """Return the reference of every setting, in Markdown."""
    parts = [_INTRODUCTION]
    for name, section in SECTIONS.items():
        parts += [f"## `[{name}]`\n\n{section.__doc__}\n", _table(_settings(section))]
    parts += [_TYPES, _table(_settings(TypeSettings)), _ENDPOINTS, _table(_settings(EndpointSettings)), _SHARING]
    parts += [
        _SECRETS,
        _BUDGETS,
        _table(_settings(BudgetSettings)),
        "## The built-in types\n",
        _table(_built_in_types()),
    ]
    return "\n".join(parts)


def _settings(model: type[BaseModel]) -> Iterator[tuple[str, ...]]:
    yield "key", "default", "allowed", "meaning"
    for key, described in model.model_fields.items():
        default = words(model, key, "unset") or _default(described.default)
        yield f"`{key}`", default, words(model, key, "allowed"), str(described.description)


def _default(value: Any) -> str:
    if value is PydanticUndefined:
        return "required"
    whole = isinstance(value, float) and value.is_integer()
    return f"`{toml_value(int(value) if whole else value)}`"


def _built_in_types() -> Iterator[tuple[str, ...]]:
    yield "type", "priority", "processing_seconds", "rate_limit", "endpoints"
    for name, table in built_in_types().items():
        endpoints = ", ".join(f"`{endpoint['name']}`" for endpoint in table["endpoints"])
        yield f"`{name}`", str(table["priority"]), str(table["processing_seconds"]), table["rate_limit"], endpoints


def _table(rows: Iterable[tuple[str, ...]]) -> str:
    head, *body = rows
    return "".join(f"| {' | '.join(row)} |\n" for row in [head, ("---",) * len(head), *body])
