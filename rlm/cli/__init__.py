"""The `rlm` command. Kept bare, for every worker imports it when it is born: commands load when they are asked for."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from rlm.cli.group import rlm  # noqa: PLC0415  # see above

    rlm()
