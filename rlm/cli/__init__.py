"""The `rlm` command. Kept bare: every worker imports it once more when it is born, so the commands load when asked for."""

from __future__ import annotations


def main() -> None:
    """Run the command line."""
    from rlm.cli.group import rlm  # noqa: PLC0415  # see above

    rlm()
