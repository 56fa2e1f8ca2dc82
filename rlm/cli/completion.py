"""`rlm completion`: the script that has a shell complete the words of `rlm`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rlm.cli.common import config_option, examples
from rlm.cli.printing import show

if TYPE_CHECKING:
    from pathlib import Path

SHELLS = ("bash", "zsh", "fish")
#: click's own lets bash expand what it completes with as file names (`endpoints[0]`), and ends `TYPE=` with a space.
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


@click.command(
    epilog=examples(
        "echo 'eval \"$(rlm completion bash)\"' >> ~/.bashrc",
        "echo 'eval \"$(rlm completion zsh)\"' >> ~/.zshrc",
        "rlm completion fish > ~/.config/fish/completions/rlm.fish",
    )
)
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(SHELLS))
@config_option
def completion(config: Path | None, shell: str) -> None:
    """Print the script that completes commands, options and names in a shell.

    Names are those of runs, types, endpoints, budgets, dead letters and settings, as they are when they are asked for.
    A store that cannot be reached completes nothing, and no server is started for it.

    Where the script goes: the examples below, then a new shell. With zsh the line stands after `compinit`; bash has to
    be 4.4 or later.
    """
    from click.shell_completion import get_completion_class  # noqa: PLC0415  # a command loads what it needs

    from rlm.cli.group import COMPLETE_VARIABLE, rlm  # noqa: PLC0415  # which imports this module

    if config is not None:
        from rlm.settings import load_settings  # noqa: PLC0415

        load_settings(config)  # nothing of it goes into the script; one that is wrong is not passed over, though
    found = get_completion_class(shell)
    if found is None:  # click has all three
        raise click.UsageError(f"click has no completion for {shell}")
    script = found(rlm, {}, "rlm", COMPLETE_VARIABLE)
    show((BASH if shell == "bash" else script.source_template) % script.source_vars())
