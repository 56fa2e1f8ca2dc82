"""How RLM looks on a terminal: pictures of runs and queues, drawn from the documents that `--json` prints."""

from __future__ import annotations

from rlm.view.outputs import Drawn, JSONLines, Lines, Output
from rlm.view.queue import QueuePicture
from rlm.view.record import RecordPicture
from rlm.view.rest import RestPicture
from rlm.view.run import RunPicture

__all__ = ["Drawn", "JSONLines", "Lines", "Output", "QueuePicture", "RecordPicture", "RestPicture", "RunPicture"]
