"""What a broker needs of a store: a client, and the name under which it keeps its messages."""

from __future__ import annotations

from types import SimpleNamespace

from rlm.ledger.connect import make_client


class StubStore:
    """Stands for the store at `url`, for a broker of that `namespace`."""

    def __init__(self, url, namespace):
        self.client = make_client(url)
        self.keys = SimpleNamespace(dramatiq=namespace)
