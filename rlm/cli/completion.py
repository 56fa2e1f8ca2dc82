"""`rlm completion`, and the names that a shell completes words with; no server is started for them.

Whatever goes wrong, a faulty file or a store that does not answer, completes nothing and prints nothing.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

from rlm.cli.common import command, settings_of
from rlm.cli.printing import show

if TYPE_CHECKING:
    from rlm.ledger import Store
    from rlm.settings import Settings

    Complete = Callable[[click.Context, click.Parameter, str], list[str]]

#: How long the store has to answer, seconds: a person waits for it with a key pressed.
ANSWER_SECONDS = 0.5
#: Names that are offered, at the most.
MOST = 100

#: A name that every shell takes as one word and not as an option, as all names that RLM makes. Others may write into
#: Redis, and a completion goes onto the command line as it is: Enter would run a `$(...)` in it.
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:=\[\]-]*")

#: click's own script lets bash expand completions as file names (`endpoints[0]`), and ends `TYPE=` with a space.
BASH = """\
_rlm_completion() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            plain)
                COMPREPLY+=("$value")
                if [[ $value == *= ]]; then compopt -o nospace; fi
                ;;
        esac
    done < <(env COMP_WORDS="${COMP_WORDS[*]}" COMP_CWORD="$COMP_CWORD" %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F _rlm_completion rlm
"""


@command(
    "echo 'eval \"$(rlm completion bash)\"' >> ~/.bashrc",
    "echo 'eval \"$(rlm completion zsh)\"' >> ~/.zshrc",
    "rlm completion fish > ~/.config/fish/completions/rlm.fish",
    prints_data=False,
)
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(("bash", "zsh", "fish")))
def completion(config: Path | None, shell: str) -> None:
    """Print the script that completes commands, options and names in a shell.

    Names are those of runs, types, endpoints, budgets, dead letters and settings, as they are when they are asked for.
    A store that cannot be reached completes nothing, and no server is started for it.

    Where the script goes: the examples below, then a new shell. With zsh the line stands after `compinit`; bash has to
    be 4.4 or later.
    """
    from click.shell_completion import ShellComplete, get_completion_class

    from rlm.cli.group import COMPLETE_VARIABLE, rlm  # which imports this module

    if config is not None:
        settings_of(config)  # the script needs nothing of it, but a faulty file is reported
    kind = get_completion_class(shell) or ShellComplete  # click has all three
    script = kind(rlm, {}, "rlm", COMPLETE_VARIABLE)
    show((BASH if shell == "bash" else script.source_template) % script.source_vars())


def _completing(names: Callable[[Settings], Iterable[str]]) -> Complete:
    """Make a completion from the names that there are by the settings, or by their store."""

    def complete(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[str]:
        given = ctx.params.get("ids") or ()  # dead letters that the command line names already
        try:
            found = names(settings_of(ctx.params.get("config")))
            return [one for one in found if one.startswith(incomplete) and _WORD.fullmatch(one) and one not in given]
        except Exception:  # noqa: BLE001  # a shell is no place for any error
            return []

    return complete


def _in_store(names: Callable[[Store], Iterable[str]]) -> Callable[[Settings], Iterable[str]]:
    """Make a source of names that asks the store, if it answers."""

    def find(settings: Settings) -> Iterable[str]:
        from rlm.ledger import Store
        from rlm.ledger.server import running_url

        if (url := running_url(settings)) is not None:
            with closing(Store(settings, url, answer_seconds=ANSWER_SECONDS)) as store:
                yield from islice(names(store), MOST)

    return find


def _open_run(store: Store) -> Iterable[str]:
    run = store.runs.current()
    return [run.id] if run else []


def _letters(store: Store) -> Iterable[str]:
    from rlm.admin.letters import DeadLetter

    return (DeadLetter.read(raw).id for raw in store.letters.all())


run_ids = _completing(_in_store(lambda store: [*_open_run(store), *store.runs.history(MOST)]))
open_run_id = _completing(_in_store(_open_run))
letter_ids = _completing(_in_store(_letters))
limited_names = _completing(lambda settings: [*settings.endpoints, *settings.budgets])
endpoint_names = _completing(lambda settings: settings.endpoints)
type_names = _completing(lambda settings: settings.types)
type_counts = _completing(lambda settings: [f"{name}=" for name in settings.types])
setting_keys = _completing(lambda settings: [one.key for one in settings.shown])
setting_values = _completing(lambda settings: [f"{one.key}=" for one in settings.shown])
