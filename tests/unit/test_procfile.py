"""The foreman's decisions: recorded histories of a Procfile's processes with a test clock."""

from __future__ import annotations

import io
import signal
from types import SimpleNamespace

import pytest
from honcho.printer import Message, Printer

from rlm.processes.procfile import Entry, Foreman
from rlm.processes.signals import HASTE_SECONDS, REPEAT_SECONDS, Wakeup
from tests.clocks import SetClock

TERM, KILL = signal.SIGTERM, signal.SIGKILL


class FakeEntry(Entry):
    """An entry whose life the test controls; it records the signals that it gets."""

    def __init__(self, name, command=None):
        super().__init__(name, command or f"exec rlm {name}", {}, ".", "")
        self.signals = []

    def start(self, report):
        self._report = report
        self._tell("start", {"pid": 100 + len(self.name)})

    def send_signal(self, sig):
        assert self.pid == 100 + len(self.name)
        self.signals.append(sig)

    def says(self, text):
        self._tell("line", f"{text}\n".encode())

    def ends(self, returncode):
        self._tell("stop", {"returncode": returncode})

    def _tell(self, kind, data):
        self._report(Message(type=kind, data=data, time=MOMENT, name=self.name, colour=None))


MOMENT = SimpleNamespace(strftime=lambda _format: "12:00:00")


class Play:
    """A foreman with fake entries, whose loop the test turns."""

    def __init__(self, wakeup, *names, output=None, **commands):
        self.entries = {name: FakeEntry(name, commands.get(name)) for name in (*names, *commands)}
        self.stop = SimpleNamespace(graceful=False, immediate=False, wakeup=wakeup)
        self.clock = SetClock(0.0)
        self.output = output or io.StringIO()
        self.foreman = Foreman(list(self.entries.values()), Printer(self.output), self.stop, 10.0, clock=self.clock)
        for entry in self.entries.values():
            entry.start(self.foreman._report)
        self.turn()

    def __getitem__(self, name):
        return self.entries[name]

    def turn(self, *, after=0.0):
        self.clock.time += after
        self.foreman._turn()

    def end(self, name, returncode=0):
        self[name].ends(returncode)
        self.turn()

    @property
    def signals(self):
        return {name: entry.signals for name, entry in self.entries.items()}

    @property
    def code(self):
        """Return the result of `run`; all have ended, so it does nothing else."""
        assert self.foreman._group.left == []
        self.foreman._entries.clear()
        return self.foreman.run()


@pytest.fixture
def play():
    """Make plays that share a real wake-up pipe."""
    wakeup = Wakeup()
    yield lambda *names, **options: Play(wakeup, *names, **options)
    wakeup.close()


def test_stops_the_scheduler_then_the_supervisor_then_the_rest(play):
    """Each is asked to end when those before it have, whatever the order in the Procfile."""
    it = play("web", "supervisor", "scheduler", "bell")
    it.stop.graceful = True

    it.turn()
    assert it.signals == {"web": [], "supervisor": [], "scheduler": [TERM], "bell": []}

    it.end("scheduler")
    assert it.signals == {"web": [], "supervisor": [TERM], "scheduler": [TERM], "bell": []}

    it.end("supervisor")
    assert it.signals == {"web": [TERM], "supervisor": [TERM], "scheduler": [TERM], "bell": [TERM]}

    it.end("web", -TERM)
    it.end("bell", 128 + TERM)
    assert it.code == 0


def test_asks_once_and_gives_each_its_own_grace_period(play):
    """TERM is sent once; what has not ended in its grace period is killed, once; the next has a period of its own."""
    it = play("scheduler", "supervisor")
    it.stop.graceful = True
    it.turn()

    it.turn(after=9.9)
    it.turn(after=0.2)
    it.turn(after=0.1)
    it.end("scheduler", -KILL)
    it.turn(after=9.9)

    assert it.signals == {"scheduler": [TERM, KILL], "supervisor": [TERM]}
    it.end("supervisor")
    assert it.code == 128 + KILL


@pytest.mark.parametrize(("returncode", "code"), [(7, 7), (0, 0), (-signal.SIGSEGV, 128 + signal.SIGSEGV)])
def test_an_end_nobody_asked_for_stops_all_and_gives_the_exit_code(play, returncode, code):
    """The others are stopped in order, and how they end then does not matter."""
    it = play("scheduler", "supervisor", "web")

    it.end("supervisor", returncode)
    assert it.signals == {"scheduler": [TERM], "supervisor": [], "web": []}
    it.end("scheduler", 3)
    it.end("web", -TERM)

    assert it.code == code
    assert "supervisor ended" in it.output.getvalue()
    assert "without having been asked to" in it.output.getvalue()


def test_a_second_signal_ends_all_at_once(play):
    """All get TERM at the same time, again and again, and are killed soon; the exit code says that work was cut."""
    it = play("scheduler", "supervisor", "web")
    it.stop.graceful = True
    it.turn()
    it.stop.immediate = True

    it.turn(after=REPEAT_SECONDS)
    assert it.signals == {"scheduler": [TERM, TERM], "supervisor": [TERM], "web": [TERM]}
    it.turn(after=REPEAT_SECONDS)
    it.end("supervisor")
    it.turn(after=HASTE_SECONDS)
    assert it.signals == {"scheduler": [TERM] * 3 + [KILL], "supervisor": [TERM] * 2, "web": [TERM] * 2 + [KILL]}
    it.end("scheduler", -KILL)
    it.end("web", -KILL)

    assert it.code == 1


def test_stops_all_when_its_output_is_gone(play):
    """With the terminal closed nobody would know that anything runs, so nothing shall."""

    class Gone(io.StringIO):
        def write(self, _text):
            raise BrokenPipeError

    it = play("scheduler", output=Gone())

    assert it.signals == {"scheduler": [TERM]}
    it.end("scheduler")
    assert it.code == 0
