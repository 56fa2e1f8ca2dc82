"""Names that modules import which are being rewritten; this file goes with them."""

from __future__ import annotations

from typing import Any

RECENT_SECONDS = 10.0
Failure: Any = None
Trouble: Any = None
HostWays: Any = None
cut_off: Any = None
shade: Any = None
