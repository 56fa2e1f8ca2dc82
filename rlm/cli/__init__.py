"""The `rlm` command. Kept bare, for every worker imports it when it is born: commands load when they are asked for."""

from __future__ import annotations


def main() -> None:
    """Run the command line. Ctrl-C that comes before there is a command ends it as quietly as later."""
    try:
        from rlm.cli.group import rlm  # noqa: PLC0415  # see above
        from rlm.cli.streams import settle_streams  # noqa: PLC0415

        settle_streams()
        rlm()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
