"""Colour: on a terminal that can show it, never elsewhere, and never from an untrusted text."""

from __future__ import annotations

import pytest
from _pytest.capture import CaptureIO

from rlm.admin.hosts import HostState
from rlm.cli import printing, processes
from rlm.cli.printing import is_coloured, is_terminal, say, show, show_words, styled, table


@pytest.fixture
def on_a_terminal(monkeypatch):
    """Both streams are a terminal that understands colours."""
    monkeypatch.setattr(CaptureIO, "isatty", lambda _self: True)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)


def test_colour_in_the_middle_of_a_line(on_a_terminal, capsys):
    """On a terminal a styled word is coloured on either stream, and the rest of its line is not."""
    show(f"Redis is {styled('fine', 'ok')}.")
    say(f"Redis is {styled('away', 'error')}.")

    told = capsys.readouterr()
    assert told.out == "Redis is \x1b[32mfine\x1b[0m.\n"
    assert told.err == "Redis is \x1b[1;31maway\x1b[0m.\n"


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_no_colour_where_unwanted(on_a_terminal, monkeypatch, capsys, name, value):
    """NO_COLOR and a dumb terminal are honoured; only the dumb one is no terminal to draw on."""
    # A terminal whose person wants no colour, or that has none
    monkeypatch.setenv(name, value)

    show(styled("fine", "ok"))

    assert capsys.readouterr().out == "fine\n"
    assert not is_coloured()
    assert is_terminal() is (name == "NO_COLOR")


@pytest.mark.parametrize(("other", "coloured"), [(None, True), ("TERM", True), ("NO_COLOR", False)])
def test_colour_in_a_pipe_where_it_is_wanted(monkeypatch, capsys, other, coloured):
    """FORCE_COLOR colours, but draws nothing; NO_COLOR has the last word, as in the log."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    if other:
        monkeypatch.setenv(other, "dumb")

    show(styled("fine", "ok"))
    say(styled("away", "error"))

    told = capsys.readouterr()
    assert told.out == ("\x1b[32mfine\x1b[0m\n" if coloured else "fine\n")
    assert told.err == ("\x1b[1;31maway\x1b[0m\n" if coloured else "away\n")
    assert not is_terminal()


def test_no_colour_in_a_pipe(capsys):
    """What goes to a file or another program is the bare text."""
    # Streams that are no terminal, as pytest's are not
    show(f"{styled('a', 'title')}b")

    assert capsys.readouterr().out == "ab\n"
    assert not is_terminal()
    assert not is_terminal(err=True)


def test_columns_stand_where_they_would_without_colour(on_a_terminal, capsys):
    """A styled cell takes the room of the characters one sees."""
    table(["state", "events"], [[styled("ok", "ok"), "7"], ["failed", styled("12", "error")]])

    assert capsys.readouterr().out.splitlines() == [
        "state   events",
        "\x1b[32mok\x1b[0m           7",
        "failed      \x1b[1;31m12\x1b[0m",
    ]


def test_no_text_from_outside_is_coloured(on_a_terminal, capsys):
    """A text cannot bring its own colours, not even inside of a styled one, nor can it guess the mark."""
    # Texts that would colour the terminal, one by its commands and one by an older process's mark
    outside = ["\x1b[31mred", "\ue0000123456789abcdef;"]

    for text in outside:
        show(text)
        show(styled(text, "dim"))

    told = capsys.readouterr().out
    assert told.count("\x1b") == 2 * len(outside)
    assert "\\u001b[31mred" in told


def test_sentences_are_wrapped_at_words_on_a_terminal(on_a_terminal, monkeypatch, capsys):
    """Not between backticks, for that is typed; nor what is laid out already, nor in a pipe."""
    # A terminal of 20 columns
    monkeypatch.setenv("COLUMNS", "20")
    words = f"{styled('Nobody', 'warn')} took it  up. Try\n  a line that is laid out\n`rlm start --wait` alone."

    show_words(words)
    say(words)
    show(words)
    told = capsys.readouterr()

    wrapped = "\x1b[33mNobody\x1b[0m took it  up.\nTry\n  a line that is laid out\n`rlm start --wait`\nalone.\n"
    assert told.out.startswith(wrapped)
    assert told.err == wrapped
    assert told.out.removeprefix(wrapped).count("\n") == 3

    # Those that are set in stay so
    show_words("one two three four five six", indent=2)
    assert capsys.readouterr().out == "  one two three\n    four five six\n"

    # In a pipe they stay in one piece
    monkeypatch.setattr(CaptureIO, "isatty", lambda _self: False)
    show_words("as long as it likes to be")
    assert capsys.readouterr().out == "as long as it likes to be\n"


def test_a_table_fits_a_narrow_terminal(on_a_terminal, monkeypatch, capsys):
    """Its times are shortened, then columns left out, then the last one is wrapped; a pipe gets all of it."""
    # A table that takes 72 columns
    headings = ["id", "ended", "spare", "words"]
    rows = [["a1", "2020-11-25T17:47:22.747Z", "0123456789", styled("HTTP", "warn") + " 500 and what it said"]]

    def printed(width):
        monkeypatch.setenv("COLUMNS", str(width))
        table(headings, rows, right=(), spare=["spare"])
        return capsys.readouterr().out.replace("\x1b[33m", "").replace("\x1b[0m", "").splitlines()

    # It is printed on terminals that are narrower and narrower
    assert printed(72)[1] == "a1  2020-11-25T17:47:22.747Z  0123456789  HTTP 500 and what it said"
    assert printed(62)[1] == "a1  11-25 17:47:22  0123456789  HTTP 500 and what it said"
    assert printed(50)[1] == "a1  11-25 17:47:22  HTTP 500 and what it said"
    assert printed(36) == ["id  ended           words", "a1  11-25 17:47:22  HTTP 500 and", f"{'':20}what it said"]
    assert printed(30)[1] == "a1  11-25 17:47:22  HTTP 500 and what it said"

    # A pipe gets all of it
    monkeypatch.setattr(CaptureIO, "isatty", lambda _self: False)
    assert printed(30)[1] == "a1  2020-11-25T17:47:22.747Z  0123456789  HTTP 500 and what it said"


def test_an_unknown_kind_is_refused():
    """A kind nobody defined is a mistake of whoever wrote it."""
    with pytest.raises(ValueError, match="there are ok, warn"):
        styled("text", "purple")
    assert set(printing._LOOKS) == {"ok", "warn", "error", "busy", "title", "dim"}


def test_every_state_has_a_look_that_there_is():
    """The tables that turn states into looks name no other: a command would end by it once the state is met."""
    for looks in (processes._STATE_KINDS, processes._HOST_KINDS):
        assert all(styled(state, kind) for state, kind in looks.items())


def test_every_state_of_a_host_has_its_look_and_a_scheduler_alone_is_no_warning():
    """Nothing is to be done about a host on which only a standby runs."""
    assert set(processes._HOST_KINDS) == set(HostState)
    assert {state for state, kind in processes._HOST_KINDS.items() if kind == "ok"} == {"ready", "unsupervised"}
