"""The configuration as a whole: its tables, how layers of them are merged, and what describes each place in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rlm.settings.fields import Name, setting
from rlm.settings.model import (
    ArchiveSettings,
    BudgetSettings,
    EndpointSettings,
    QueueSettings,
    RedisSettings,
    RetrySettings,
    RunSettings,
    Section,
    TypeSettings,
    WebSettings,
    WorkersSettings,
)

if TYPE_CHECKING:
    from pydantic import BaseModel


class Document(Section):
    """The whole configuration as it is written, all layers merged."""

    redis: RedisSettings
    queue: QueueSettings
    run: RunSettings
    workers: WorkersSettings
    retry: RetrySettings
    archive: ArchiveSettings
    web: WebSettings
    types: dict[Name, TypeSettings] = setting(
        ..., "Types", allowed="one or more tables, [types.NAME]; leave `types` out for the built-in ones", min_length=1
    )
    budgets: dict[Name, BudgetSettings] = setting({}, "Budgets", allowed="a table for each of them, [budgets.NAME]")


#: The sections with one table each.
SECTIONS: dict[str, type[Section]] = {
    "redis": RedisSettings,
    "queue": QueueSettings,
    "run": RunSettings,
    "workers": WorkersSettings,
    "retry": RetrySettings,
    "archive": ArchiveSettings,
    "web": WebSettings,
}


def merged(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Return the tables of `below` with those of `above` put over them, key by key; a list replaces a list."""
    result = dict(below)
    for key, value in above.items():
        old = result.get(key)
        result[key] = merged(old, value) if isinstance(old, dict) and isinstance(value, dict) else value
    return result


def model_at(path: tuple[str | int, ...]) -> type[BaseModel] | None:
    """Return what describes the table at `path`, None where there is no such table."""
    match path:
        case ():
            return Document
        case (str(section),):
            return SECTIONS.get(section)
        case ("types", str()):
            return TypeSettings
        case ("budgets", str()):
            return BudgetSettings
        case ("types", str(), "endpoints", int()):
            return EndpointSettings
        case _:
            return None
