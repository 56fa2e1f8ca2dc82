"""Frozen settings from defaults, a TOML file and the environment; all faults are reported at once."""

from __future__ import annotations

from rlm.settings.demo import demo_document
from rlm.settings.effective import Settings, Shown
from rlm.settings.load import load_settings, load_sound
from rlm.settings.masking import mask_url, resolve_headers, resolve_token
from rlm.settings.model import (
    ArchiveSettings,
    BudgetSettings,
    EndpointSettings,
    QueueSettings,
    RedisSettings,
    RetrySettings,
    RunSettings,
    TypeSettings,
    WebSettings,
    WorkersSettings,
)
from rlm.settings.selftest import events_by_type, selftest_document, settings_under

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
    "WebSettings",
    "WorkersSettings",
    "demo_document",
    "events_by_type",
    "load_settings",
    "load_sound",
    "mask_url",
    "resolve_headers",
    "resolve_token",
    "selftest_document",
    "settings_under",
]
