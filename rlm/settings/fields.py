"""How a setting is described: default, meaning, what is allowed in words, rules. The sections are in model.py."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import Field

if TYPE_CHECKING:
    from pydantic.fields import FieldInfo


def setting(default: Any, meaning: str, *, allowed: str, unset: str = "", **rules: Any) -> Any:
    """Describe one setting: `allowed` is the rules in words, `unset` what a missing value means."""
    return Field(default, description=meaning, json_schema_extra={"allowed": allowed, "unset": unset}, **rules)


def seconds(default: float | None, meaning: str, *, from_zero: bool = False, unset: str = "") -> Any:
    """Describe a duration. 1e9 (31 years) keeps dates and Lua's numbers within what they can hold."""
    allowed = "a number of seconds " + ("from 0 to 1e9" if from_zero else "above 0, at most 1e9")
    return setting(default, meaning, allowed=allowed, unset=unset, le=1e9, **{"ge" if from_zero else "gt": 0})


def whole(default: int, meaning: str, *, lowest: int, highest: int = 10**9) -> Any:
    """Describe a count."""
    return setting(default, meaning, allowed=f"a whole number from {lowest} to {highest}", ge=lowest, le=highest)


def list_name(default: str, meaning: str) -> Any:
    """Describe the name of a Redis list."""
    allowed = "1 to 200 printable characters, another name than the other two, not beginning with `redis.prefix` and "
    return setting(default, meaning, allowed=allowed + "a colon")


def words(described: FieldInfo, what: str) -> str:
    """Return what `setting` was given as `allowed` or `unset`."""
    extra = described.json_schema_extra
    return str(extra[what]) if isinstance(extra, dict) else ""
