"""RLM, the Rate Limit Manager: every event that can be sent in its window is, no limit is exceeded, nothing lost."""

from __future__ import annotations

__version__ = "0.1.0"
