"""The conductor's lease in Redis: one holder at a time, and a fencing token that grows with each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rlm.ledger.connect import text, translating
from rlm.ledger.quarantine import Quarantine
from rlm.ledger.scripts import Script

if TYPE_CHECKING:
    import redis

    from rlm.ledger.keys import Keys


#: What is wrong with one that nobody can take.
_NO_LEASE = "is no lease: a hash with a token that is a number is expected"
#: Owner and end of the lease, and the clock of Redis: seconds and microseconds.
_Found = tuple[list["bytes | None"], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Tenure:
    """Who took the lease last and has not given it up, and for how much longer; below zero where it ran out."""

    owner: str
    left_seconds: float


class Leases:
    """Takes, prolongs and gives up the lease that allows to conduct runs."""

    def __init__(self, client: redis.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys
        self._quarantine = Quarantine(client, keys)
        self._acquire = Script("acquire_lease")
        self._release = Script("release_lease")

    @translating
    def acquire(self, owner: str, ttl_seconds: float) -> int:
        """Take or prolong the lease for `ttl_seconds`; return its fencing token, 0 while another holds it."""
        return self.contend(owner, ttl_seconds)[0]

    @translating
    def contend(self, owner: str, ttl_seconds: float) -> tuple[int, str]:
        """Take or prolong the lease as `acquire` does; return the fencing token or 0, and who holds it now."""
        lease = self._keys.lease
        note, where = self._quarantine.note(lease, _NO_LEASE)
        token, holder, aside = self._acquire(
            self._client,
            [lease, where, self._keys.quarantine],
            [owner, round(ttl_seconds * 1_000_000), note],
        )
        if aside:
            self._quarantine.tell(lease, _NO_LEASE, where)
        return int(token), text(holder)

    def release(self, owner: str) -> bool:
        """Give the lease up; False when it was no longer the owner's."""
        return bool(self._release(self._client, [self._keys.lease], [owner]))

    def holder(self) -> str | None:
        """Name the process that holds a lease which has not run out, or None."""
        tenure = self.tenure()
        return tenure.owner if tenure and tenure.left_seconds > 0 else None

    @translating
    def tenure(self) -> Tenure | None:
        """Tell who took the lease last, even where it has run out; None where nobody has, or it was given up."""
        pipeline = self._client.pipeline(transaction=False)
        pipeline.hmget(self._keys.lease, ["owner", "expires_us"])
        pipeline.time()
        (owner, expires), (seconds, microseconds) = cast("_Found", tuple(pipeline.execute()))
        if owner is None or expires is None:
            return None
        return Tenure(text(owner), (int(expires) - seconds * 1_000_000 - microseconds) / 1_000_000)

    @translating
    def token(self) -> int:
        """Return the newest fencing token that was given out, 0 before the first."""
        return int(cast("bytes | None", self._client.hget(self._keys.lease, "token")) or 0)
