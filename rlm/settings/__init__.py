"""Frozen settings from defaults, a TOML file and the environment; all faults are reported at once."""

from __future__ import annotations

from rlm.settings.demo import demo_document
from rlm.settings.effective import Settings, Shown
from rlm.settings.load import load_settings
from rlm.settings.masking import mask_url, resolve_headers
from rlm.settings.model import (
    ArchiveSettings,
    BudgetSettings,
    EndpointSettings,
    QueueSettings,
    RedisSettings,
    RetrySettings,
    RunSettings,
    TypeSettings,
    WorkersSettings,
)

__all__ = [
    "ArchiveSettings",
    "BudgetSettings",
    "EndpointSettings",
    "QueueSettings",
    "RedisSettings",
    "RetrySettings",
    "RunSettings",
    "Settings",
    "Shown",
    "TypeSettings",
    "WorkersSettings",
    "demo_document",
    "load_settings",
    "mask_url",
    "resolve_headers",
]
