"""What a shell may complete a word with, from the configuration and the live store: quickly, and starting nothing.

Whatever goes wrong, a wrong file or a store that does not answer, there is nothing to complete with and no word of it.
"""

from __future__ import annotations

import re
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import click

    from rlm.ledger import Store
    from rlm.settings import Settings

    Look = Callable[[Store], Iterable[str]]

#: How long the store has to answer, seconds: a person waits for it with a key pressed.
ANSWER_SECONDS = 0.5
#: Names that are offered, at the most.
MOST = 100

#: A name that is one word to every shell and no option, as those that RLM makes are. Others may write into Redis, and
#: what is completed with stands on the command line as it is: `$(...)` in it would be run when Enter is pressed.
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:=\[\]-]*")


def run_ids(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete with the open run and the recent ones, newest first."""
    return _of_store(ctx, incomplete, _look_for_runs)


def open_run_id(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete with the open run."""
    return _of_store(ctx, incomplete, _look_for_open_run)


def letter_ids(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete with the newest dead letters that are not named yet."""
    given = ctx.params.get("ids") or ()
    return [one for one in _of_store(ctx, incomplete, _look_for_letters) if one not in given]


def limited_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete with endpoints and budgets."""
    return _of_settings(ctx, incomplete, lambda settings: [*settings.endpoints, *settings.budgets])


def endpoint_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete with endpoints."""
    return _of_settings(ctx, incomplete, lambda settings: settings.endpoints)


def mock_endpoints(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the endpoint before `=` or `.`."""
    return _of_settings(ctx, incomplete, lambda settings: settings.endpoints)


def type_names(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete with the types of events."""
    return _of_settings(ctx, incomplete, lambda settings: settings.types)


def type_counts(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the type in `TYPE=N`."""
    return _of_settings(ctx, incomplete, lambda settings: [f"{name}=" for name in settings.types])


def setting_keys(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete with the keys of the configuration."""
    return _of_settings(ctx, incomplete, lambda settings: [one.key for one in settings.shown])


def setting_values(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the key in `KEY=VALUE`."""
    return _of_settings(ctx, incomplete, lambda settings: [f"{one.key}=" for one in settings.shown])


def _of_settings(ctx: click.Context, incomplete: str, names: Callable[[Settings], Iterable[str]]) -> list[str]:
    try:
        found = list(names(_settings(ctx)))
    except Exception:  # noqa: BLE001  # see above: whatever it is, a shell is no place to tell it
        return []
    return _offered(found, incomplete)


def _of_store(ctx: click.Context, incomplete: str, look: Look) -> list[str]:
    try:
        settings = _settings(ctx)
        url = _url(settings)
        found = list(_ask(settings, url, look)) if url else []
    except Exception:  # noqa: BLE001  # see above
        return []
    return _offered(found, incomplete)


def _offered(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete) and _WORD.fullmatch(name)]


def _settings(ctx: click.Context) -> Settings:
    from rlm.settings import load_settings  # noqa: PLC0415  # costs a tenth of a second, so only where it is needed

    return load_settings(ctx.params.get("config"))


def _url(settings: Settings) -> str | None:
    """Say where the store is; None for an embedded server that does not run, for it is not started for this."""
    from rlm.ledger.embedded import EmbeddedServer, running  # noqa: PLC0415
    from rlm.settings.secrets import EMBEDDED  # noqa: PLC0415

    if settings.redis.url != EMBEDDED:
        return settings.redis.url
    return EmbeddedServer(settings.data_dir).url if running(settings.data_dir) else None


def _ask(settings: Settings, url: str, look: Look) -> list[str]:
    from rlm.ledger import Store  # noqa: PLC0415

    with closing(Store(settings, url, answer_seconds=ANSWER_SECONDS)) as store:
        return list(islice(look(store), MOST))


def _look_for_runs(store: Store) -> Iterable[str]:
    yield from _look_for_open_run(store)
    yield from store.runs.history(MOST)


def _look_for_open_run(store: Store) -> Iterable[str]:
    run = store.runs.current()
    if run is not None:
        yield run.id


def _look_for_letters(store: Store) -> Iterable[str]:
    from rlm.admin.letters import handle_of  # noqa: PLC0415

    return map(handle_of, store.letters.all())
