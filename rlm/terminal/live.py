"""A live view: on a terminal a picture that is redrawn in place, elsewhere a line if something has changed."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Self, TextIO

import click
import msgspec
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from rlm.admin.text import LONGEST_LINE, LONGEST_TEXT
from rlm.core.clock import isoformat, system_clock
from rlm.core.text import cut, safe, safe_line


def console_on(stream: TextIO) -> Console:
    """Return a console on a stream; a pipe or a file is 120 columns wide."""
    return Console(file=stream, highlight=False, width=None if stream.isatty() or "COLUMNS" in os.environ else 120)


class View:
    """Shows documents inside a `with` block, or writes each as JSON on a line of its own.

    Without a terminal a line is written if it has changed, at most one a second. The last picture stays, unless it is
    `transient`.
    """

    def __init__(
        self,
        stream: TextIO,
        draw: Callable[[Any], RenderableType],
        line: Callable[[Any], str],
        *,
        as_json: bool = False,
        transient: bool = False,
    ) -> None:
        console = console_on(stream)
        self.is_drawn = stream.isatty() and not console.is_dumb_terminal and not as_json
        self._live = Live(console=console, auto_refresh=False, transient=transient)
        self._stream, self._as_json = stream, as_json
        self._draw, self._line = draw, line
        self._last, self._written_at = "", float("-inf")
        self._picture: RenderableType = Text()
        self._seen_at = system_clock.monotonic()

    def __enter__(self) -> Self:
        if self.is_drawn:
            self._live.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._live.stop()

    def show(self, document: Any) -> None:
        """Show a document."""
        self._seen_at = system_clock.monotonic()
        if self.is_drawn:
            self._picture = self._draw(document)
            self._live.update(self._picture, refresh=True)
        elif self._as_json:
            click.echo(safe(msgspec.json.encode(document).decode()), self._stream)
        elif (line := self._line(document)) != self._last and self._seen_at >= self._written_at + 1.0:
            self._write(line, self._stream)
            self._last, self._written_at = line, self._seen_at

    def trouble(self, why: str) -> None:
        """Show that the present state is unknown, and why: above the last picture, else once."""
        if self.is_drawn:
            words = f"Out of date for {system_clock.monotonic() - self._seen_at:.0f} s, trying again: {safe_line(why)}"
            note = Text(cut(words, LONGEST_TEXT), style="bold red")
            self._live.update(Group(note, self._picture), refresh=True)
        elif self._last != why:
            self._last = why
            self._write(f"out of date, trying again: {why}", None if self._as_json else self._stream)

    def _write(self, text: str, stream: TextIO | None) -> None:
        """Write a line to `stream`, by default to stderr."""
        line = f"{isoformat(system_clock.now())[11:19]}  {cut(safe_line(text), LONGEST_LINE)}"
        click.echo(line, stream, err=stream is None)
