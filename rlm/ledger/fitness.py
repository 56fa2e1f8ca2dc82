"""Whether a Redis is fit for RLM's ledger: it does not forget by eviction or restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from rlm.core.errors import StoreUnfitError
from rlm.ledger.connect import translated

if TYPE_CHECKING:
    from rlm.ledger.store import Store

#: The oldest Redis that has all commands of RLM's scripts.
OLDEST_VERSION = (6, 2)


class Flaw(NamedTuple):
    """One thing that makes a Redis unfit."""

    name: str
    message: str
    remedy: str

    def __str__(self) -> str:
        """Return it in words."""
        return f"{self.message}: {self.remedy}"


def check_fitness(store: Store, *, allow_volatile: bool = False) -> tuple[Flaw, ...]:
    """Return what makes the Redis of `store` unfit; `allow_volatile`: that it keeps no file does not.

    Raises:
        StoreError: it cannot be reached, or refuses the login.
    """
    with translated(store.client, "INFO, by which RLM sees whether a Redis is fit"):
        return tuple(judge(store.client.info(), allow_volatile=allow_volatile))


def require_fit(store: Store, *, allow_volatile: bool = False, claim: bool = True) -> None:
    """Return if the Redis of `store` is fit; `claim`: then note the form in which this version keeps its keys.

    Raises:
        StoreUnfitError: it is not; the message names all flaws with their remedies.
        StoreError: it cannot be reached or refuses the login.
    """
    if flaws := check_fitness(store, allow_volatile=allow_volatile):
        raise StoreUnfitError("this Redis could lose events or refuse them", "; ".join(map(str, flaws)))
    store.require_schema(claim=claim)


def judge(info: Mapping[str, Any], *, allow_volatile: bool = False) -> Iterator[Flaw]:
    """Yield the flaws by the output of INFO. That it takes no writes says the first write."""
    version = str(info["redis_version"])  # for Valkey, the Redis version that it is compatible with
    if tuple(int(part) if part.isdecimal() else 0 for part in version.split(".")) < OLDEST_VERSION:
        message = f"it is Redis {version}, older than {'.'.join(map(str, OLDEST_VERSION))}"
        yield Flaw("version", message, "use a newer one")
    if info.get("cluster_enabled"):
        message = "it is a Redis Cluster, where no script can reach both the audit list and RLM's keys"
        remedy = "use one primary with replicas and Sentinel (redis+sentinel://), see docs/operations.md"
        yield Flaw("cluster", message, remedy)
    policy = info.get("maxmemory_policy", "unknown")
    if policy != "noeviction" and int(info.get("maxmemory", 0)):
        message = f"it drops keys when its memory is full (maxmemory-policy is {policy})"
        yield Flaw("eviction", message, "set maxmemory-policy to noeviction")
    if not info.get("aof_enabled") and not allow_volatile:
        message = "it keeps snapshots at most, so a crash loses what came after the last (appendonly is no)"
        remedy = "set appendonly to yes, or accept the loss with --allow-volatile"
        yield Flaw("persistence", message, remedy)
