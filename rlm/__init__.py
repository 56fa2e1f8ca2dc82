"""RLM, the Rate Limit Manager: every event that can be sent in its window is, no limit is exceeded, nothing lost."""

from __future__ import annotations

__version__ = "0.1.0"

#: The form in which RLM keeps things in Redis. It grows with any change of that form: a process of another number
#: refuses to work there.
SCHEMA = 3
