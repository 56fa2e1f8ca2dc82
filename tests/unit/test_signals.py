"""Signals are counted and wake the loop; the loop decides. Real signals, to this process."""

from __future__ import annotations

import os
import select
import signal

import pytest

from rlm.processes.signals import StopSignals, Wakeup


@pytest.fixture
def wakeup():
    wakeup = Wakeup()
    yield wakeup
    wakeup.close()


def is_awake(wakeup):
    return bool(select.select([wakeup], [], [], 0)[0])


def send(signum):
    os.kill(os.getpid(), signum)  # the handler runs before this returns: the main thread signals itself


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_the_first_signal_asks_for_a_graceful_stop(wakeup, signum):
    """TERM, Ctrl-C and a closing terminal ask alike, and wake the loop."""
    with StopSignals(wakeup) as stop:
        send(signum)

        assert (stop.graceful, stop.immediate) == (True, False)
        assert is_awake(wakeup)


@pytest.mark.parametrize(
    "signums",
    [
        (signal.SIGTERM, signal.SIGTERM),
        (signal.SIGINT, signal.SIGINT),
        (signal.SIGTERM, signal.SIGINT),
        (signal.SIGHUP, signal.SIGTERM),
        (signal.SIGQUIT,),
        (signal.SIGTERM, signal.SIGQUIT),
    ],
)
def test_a_second_signal_or_a_quit_asks_for_an_immediate_stop(wakeup, signums):
    """Whoever asks twice means now; QUIT means it the first time."""
    with StopSignals(wakeup) as stop:
        for signum in signums:
            send(signum)

        assert (stop.graceful, stop.immediate) == (True, True)


def test_a_process_started_with_nohup_keeps_ignoring_the_terminal(wakeup):
    """Where HUP was ignored it stays so: nohup promised that."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopSignals(wakeup) as stop:
            send(signal.SIGHUP)

            assert not stop.graceful
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
