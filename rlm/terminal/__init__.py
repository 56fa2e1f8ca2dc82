"""How RLM looks on a terminal: pictures of runs and queues, drawn from the documents that `--json` prints."""

from __future__ import annotations

from rlm.terminal.outputs import Drawn, JSONLines, Lines, Output
from rlm.terminal.queue import QueuePicture
from rlm.terminal.record import RecordPicture
from rlm.terminal.rest import RestPicture
from rlm.terminal.run import RunPicture

__all__ = ["Drawn", "JSONLines", "Lines", "Output", "QueuePicture", "RecordPicture", "RestPicture", "RunPicture"]
