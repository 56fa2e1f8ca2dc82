"""Many cheap cases in one test: all of them are tried, and the failing ones are reported together."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable
from typing import Any

import pytest

#: What makes a case fail; a skip does not.
FAILURES = (Exception, pytest.fail.Exception, BaseExceptionGroup)


def each(names: str | tuple[str, ...], cases: Iterable[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Call a test once for every case, like `pytest.mark.parametrize`, but within one test.

    The cases share the fixtures of the test. Use `pytest.mark.parametrize` if a case needs fixtures of its own, or
    takes longer than a moment.
    """
    single = isinstance(names, str)
    tried = [{names: case} if single else dict(zip(names, case, strict=True)) for case in cases]
    assert tried, "no case would be tried"

    def fold(test: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(test)
        def folded(**fixtures: Any) -> None:
            failed = [error for values in tried if (error := _failure(test, fixtures, values))]
            if failed:
                raise BaseExceptionGroup(f"{len(failed)} of {len(tried)} cases", failed)

        signature = inspect.signature(test)
        asked = [one for name, one in signature.parameters.items() if name not in tried[0]]
        folded.__signature__ = signature.replace(parameters=asked)  # type: ignore[attr-defined]
        return folded

    return fold


def _failure(test: Callable[..., None], fixtures: dict[str, Any], values: dict[str, Any]) -> BaseException | None:
    try:
        test(**fixtures, **values)
    except FAILURES as error:
        error.add_note(f"where {', '.join(f'{name} = {value!r}' for name, value in values.items())}")
        return error
    return None
