"""How large what goes through Redis may be, in bytes. Each bound follows from `queue.max_item_bytes`."""

from __future__ import annotations

#: An item of so many bytes is read as a whole, however small `queue.max_item_bytes` is.
READABLE_BYTES = 1_000_000


def longest_item(max_item_bytes: int) -> int:
    """Return of how many bytes an item may be to be read as a whole: to be taken, or to be a dead letter."""
    return max(max_item_bytes, READABLE_BYTES)


def longest_letter(max_item_bytes: int) -> int:
    """Return of how many bytes a dead letter may be to be read as a whole: it may hold an item as base64."""
    return 2 * longest_item(max_item_bytes)


def longest_bulk(max_item_bytes: int) -> int:
    """Return how long an argument of a command the embedded server has to admit.

    RLM's longest are dead letters, and a record with 10,000 endpoints, about 3 MB.
    """
    return 2 * longest_letter(max_item_bytes)
