"""Frozen settings from defaults, a TOML file, the environment and options; all faults are reported at once."""

from __future__ import annotations

from rlm.settings.load import Settings, Shown, load_settings, load_sound, settings_under
from rlm.settings.secrets import mask_url, resolve_headers, resolve_token

__all__ = [
    "Settings",
    "Shown",
    "load_settings",
    "load_sound",
    "mask_url",
    "resolve_headers",
    "resolve_token",
    "settings_under",
]
