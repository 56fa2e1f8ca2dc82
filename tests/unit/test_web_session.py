"""Sessions: signed, limited in time, ended at will; and the token of their pages."""

from __future__ import annotations

import pytest

from rlm.web.session import IDLE_SECONDS, LONGEST_SECONDS, Sessions, WebSession
from tests.clocks import SetClock
from tests.each import each

TOKEN = "a-token-of-24-characters"


@pytest.fixture
def clock():
    return SetClock(1_800_000_000.0)


@pytest.fixture
def sessions(clock):
    return Sessions(TOKEN, clock)


def test_a_session_is_read_from_its_cookie(sessions):
    """It says when it began and until when it is good."""
    session = sessions.begin()

    assert sessions.read(sessions.cookie(session)) == session
    assert session.until - session.began == IDLE_SECONDS


def test_with_a_token_a_session_outlives_the_process(sessions, clock):
    """And ends with that token; without one each process has a key of its own."""
    cookie = sessions.cookie(sessions.begin())
    open_ = Sessions("", clock)

    assert Sessions(TOKEN, clock).read(cookie)
    assert Sessions(f"{TOKEN}2", clock).read(cookie) is None
    assert Sessions("", clock).read(open_.cookie(open_.begin())) is None


@each(
    "forge",
    [
        lambda cookie: "",
        lambda cookie: "a.b.c",
        lambda cookie: cookie[:-1],
        lambda cookie: cookie[:-1] + "0" * (cookie[-1] != "0") + "1" * (cookie[-1] == "0"),
        lambda cookie: "0" + cookie[1:] if cookie[0] != "0" else "1" + cookie[1:],
        lambda cookie: cookie.replace(".18", ".19"),
        lambda cookie: cookie + "é\udcff",
        lambda cookie: f"{cookie}.{cookie}",
    ],
)
def test_what_is_not_signed_here_is_no_session(forge):
    """Whatever was changed."""
    sessions = Sessions(TOKEN, SetClock(1_800_000_000.0))

    assert sessions.read(forge(sessions.cookie(sessions.begin()))) is None


def test_a_session_ends_when_it_is_not_used(sessions, clock):
    """Used, it is prolonged, but not for ever."""
    session = sessions.begin()
    clock.time += IDLE_SECONDS - 1
    longer = sessions.renewed(session)
    clock.time += 1

    assert sessions.read(sessions.cookie(session)) is None
    assert sessions.read(sessions.cookie(longer)) == longer
    assert sessions.csrf(longer) == sessions.csrf(session)
    clock.time = session.began + LONGEST_SECONDS - 5
    assert sessions.renewed(longer).until == session.began + LONGEST_SECONDS


def test_a_session_that_was_ended_is_over_whatever_cookie_is_kept(sessions):
    """One with a later end as well."""
    session, other = sessions.begin(), sessions.begin()

    sessions.end(session)

    assert sessions.read(sessions.cookie(sessions.renewed(session))) is None
    assert sessions.read(sessions.cookie(other)) == other


def test_what_is_under_way_ends_with_its_session(sessions, clock):
    """When it is ended, or has become as old as any may."""
    ended, old = sessions.begin(), sessions.begin()
    assert not sessions.has_ended(ended)

    sessions.end(ended)

    assert (sessions.has_ended(ended), sessions.has_ended(old)) == (True, False)
    clock.time += LONGEST_SECONDS
    assert sessions.has_ended(old)


def test_the_token_of_a_page_is_that_of_its_session(sessions):
    """And not the session's signature, nor its name, which logs have."""
    one, other = sessions.begin(), sessions.begin()

    assert sessions.csrf(one) != sessions.csrf(other)
    assert sessions.csrf(one) not in sessions.cookie(one)
    assert one.id not in one.name
    assert one.name == WebSession(one.id, 0, 0).name
