"""What was ordered over HTTP or of hosts: when, by whom, from where; kept beside the changes that orders make."""

from __future__ import annotations

from typing import Final

import msgspec

from rlm.ledger.connect import translating
from rlm.ledger.scripts import Part

#: Records kept, the newest.
MOST_ORDERS: Final = 1000


class Order(msgspec.Struct, frozen=True):
    """One order, `at` in seconds since 1970 by the clock of Redis.

    `by` is the token or a session, at an `address`; of a command it is user@host, and there is no address.
    `what` is an operation of rlm/web/api.py, `about` what it is to change, `reason` why, empty if that was not said.
    """

    at: float
    by: str
    address: str
    what: str
    about: str
    reason: str = ""


class Orders(Part):
    """The newest orders. Each is noted before it is carried out, so none is carried out unnoted."""

    def note(self, by: str, address: str, what: str, about: str, reason: str) -> None:
        """Note an order that is about to be carried out."""
        record = msgspec.json.encode(Order(self._now(), by, address, what, about, reason))
        key = self._keys.orders
        self._batch([("LPUSH", key, record), ("LTRIM", key, 0, MOST_ORDERS - 1)], transaction=True)

    @translating
    def newest(self, number: int) -> list[Order]:
        """Return the newest `number` orders, newest first."""
        found = self._lrange(self._keys.orders, 0, max(0, number - 1))
        return [msgspec.json.decode(raw, type=Order) for raw in found]
