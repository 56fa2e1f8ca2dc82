"""How a setting is described: its default, its rules for pydantic and in words, its meaning."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from rlm.settings.values import (
    check_directory,
    check_endpoint_url,
    check_header_name,
    check_header_value,
    check_headers,
    check_limit,
    check_list_name,
    check_name,
    check_redis_url,
    check_web_host,
    check_web_token,
)

Name = Annotated[str, AfterValidator(check_name)]
Directory = Annotated[str, AfterValidator(check_directory)]
ListName = Annotated[str, AfterValidator(check_list_name)]
RateLimit = Annotated[str, AfterValidator(check_limit)]
HeaderName = Annotated[str, AfterValidator(check_header_name)]
HeaderValue = Annotated[str, AfterValidator(check_header_value)]
HeaderTable = Annotated[dict[HeaderName, HeaderValue], AfterValidator(check_headers)]
RedisURL = Annotated[str, AfterValidator(check_redis_url)]
WebHost = Annotated[str, AfterValidator(check_web_host)]
WebToken = Annotated[str, AfterValidator(check_web_token)]
EndpointURL = Annotated[str, AfterValidator(check_endpoint_url)]


def setting(default: Any, meaning: str, *, allowed: str, unset: str = "", **rules: Any) -> Any:
    """Describe one setting. `allowed` is the rules in words, `unset` what a missing value means."""
    return Field(default, description=meaning, json_schema_extra={"allowed": allowed, "unset": unset}, **rules)


def seconds(default: float | None, meaning: str, *, from_zero: bool = False, unset: str = "") -> Any:
    """Describe a duration. 1e9 (31 years) keeps dates and Lua's numbers within what they can hold."""
    if from_zero:
        return setting(default, meaning, allowed="a number of seconds from 0 to 1e9", unset=unset, ge=0, le=1e9)
    return setting(default, meaning, allowed="a number of seconds above 0, at most 1e9", unset=unset, gt=0, le=1e9)


def whole(default: int, meaning: str, *, lowest: int, highest: int = 10**9) -> Any:
    """Describe a count."""
    return setting(default, meaning, allowed=f"a whole number from {lowest} to {highest}", ge=lowest, le=highest)


def list_name(default: str, meaning: str) -> Any:
    """Describe the name of a Redis list."""
    allowed = (
        "1 to 200 printable characters, another name than the other two, not beginning with `redis.prefix` and a colon"
    )
    return setting(default, meaning, allowed=allowed)


def words(model: type[BaseModel], key: str, what: str) -> str:
    """Return the words that a setting was described with: `allowed` or `unset`."""
    extra = model.model_fields[key].json_schema_extra
    return str(extra[what]) if isinstance(extra, dict) else ""
