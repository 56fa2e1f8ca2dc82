"""The configuration as a whole: its tables, how layers of them are merged, and what describes each place in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_settings import BaseSettings, InitSettingsSource, PydanticBaseSettingsSource, SettingsConfigDict

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


class Document(BaseSettings):
    """The whole configuration as it is written."""

    model_config = SettingsConfigDict(strict=True, frozen=True, extra="forbid", case_sensitive=True)

    redis: RedisSettings = setting(RedisSettings(), "Redis", allowed="a table, [redis]")
    queue: QueueSettings = setting(QueueSettings(), "Queue", allowed="a table, [queue]")
    run: RunSettings = setting(RunSettings(), "Run", allowed="a table, [run]")
    workers: WorkersSettings = setting(WorkersSettings(), "Workers", allowed="a table, [workers]")
    retry: RetrySettings = setting(RetrySettings(), "Retry", allowed="a table, [retry]")
    archive: ArchiveSettings = setting(ArchiveSettings(), "Archive", allowed="a table, [archive]")
    web: WebSettings = setting(WebSettings(), "Web", allowed="a table, [web]")
    types: dict[Name, TypeSettings] = setting(
        ..., "Types", allowed="one or more tables, [types.NAME]; leave `types` out for the built-in ones", min_length=1
    )
    budgets: dict[Name, BudgetSettings] = setting({}, "Budgets", allowed="a table for each of them, [budgets.NAME]")

    @classmethod
    def merge(cls, layers: tuple[dict[str, Any], ...]) -> Document:
        """Return what the tables of `layers` say together; the first that has a value wins.

        Raises:
            ValidationError: values are not what the fields allow.
        """
        values: dict[str, Any] = {"layers": layers}
        return cls(**values)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Read from the given layers alone: which variables count depends on the types that the file names."""
        return tuple(InitSettingsSource(settings_cls, layer) for layer in init_settings()["layers"])


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
