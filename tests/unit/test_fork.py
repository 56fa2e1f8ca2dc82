"""Real templates and spare copies: what they share, what they do not, and what is left when one dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.wait import wait_until

ROOT = Path(__file__).parents[2]
PATIENCE = 20.0
#: A process with a template, and what its forks do. Each command is a line on stdin, its answer a line on stdout.
OWNER = """
import os, random, select, signal, sys, threading, time, uuid
from rlm.processes import fork
from rlm.processes.fork import Template
from rlm.processes.fork import Spare

def be(lifeline, what, *args):
    if what == "sleep":
        select.select([lifeline], [], [])
        os._exit(7)
    elif what == "signal":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
        time.sleep(60)
    elif what == "exit":
        raise SystemExit(*args)
    elif what == "ids":
        os.write(1, f"{random.random()} {uuid.uuid4()} {os.getsid(0) == os.getppid()}\\n".encode())

def main():
    fork.ANSWER_SECONDS, fork.FIRST_SECONDS = map(float, sys.argv[1:])
    with Template(be) as template:
        for line in sys.stdin:
            name, *words = line.split()
            if name == "template":
                print(template.pid, flush=True)
            elif name == "thread":
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
                print(flush=True)
            elif name == "spawn":
                args = [int(one) if one.isdigit() else one for one in words]
                print(template.spawn(*args).pid, flush=True)
            else:
                print(template.collect(int(words[0])), flush=True)

if __name__ == "__main__":
    main()
"""


class Owner:
    """A process of that program."""

    def __init__(self, directory, patience=PATIENCE, first=None):
        script = directory / "owner.py"
        script.write_text(OWNER)
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(patience), str(first or patience)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            start_new_session=True,
        )

    def ask(self, *words):
        print(*words, file=self.process.stdin, flush=True)
        return self.process.stdout.readline().strip()

    def spawn(self, *words):
        return int(self.ask("spawn", *words))

    def close(self):
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


@pytest.fixture
def make_owner(tmp_path):
    """Make owners; afterwards none of them is left."""
    made = []

    def make(**options):
        made.append(Owner(tmp_path, **options))
        return made[-1]

    yield make
    for owner in made:
        owner.close()


def is_gone(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def command(pid):
    return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


def test_how_a_fork_ended_is_told_by_its_template(make_owner):
    """By its exit status, or by the signal that ended it."""
    owner = make_owner()
    ended = [owner.ask("collect", owner.spawn("exit", code)) for code in (0, 3, "words")]
    pid = owner.spawn("signal")
    os.kill(pid, signal.SIGTERM)

    assert ended == ["0", "3", "1"]
    assert owner.ask("collect", pid) == "-15"


def test_forks_draw_numbers_and_ids_of_their_own(make_owner):
    """What was random in the template is not the same in all of them."""
    owner = make_owner()
    said = []
    for _ in range(2):
        print("spawn ids", file=owner.process.stdin, flush=True)
        lines = [owner.process.stdout.readline().split() for _ in range(2)]  # the fork's, and the owner's with its pid
        said += [line for line in lines if len(line) > 1]

    (one, id_one, in_session), (other, id_other, _) = said
    assert one != other
    assert id_one != id_other
    assert in_session == "True"  # the template's, so that no signal to the owner's group reaches it


def test_a_template_that_is_killed_is_replaced_and_its_forks_live(make_owner):
    """A process with threads is not forked: the new template is a fresh interpreter."""
    owner = make_owner()
    first, template = owner.spawn("sleep"), int(owner.ask("template"))
    owner.spawn("exit", 0)  # by its answer the template is done with the first
    owner.ask("thread")
    os.kill(template, signal.SIGKILL)
    second = owner.spawn("sleep")

    assert "rlm template" in command(int(owner.ask("template")))
    assert not is_gone(first)
    assert not is_gone(second)
    assert owner.ask("collect", first) == "None"  # whoever could learn it is gone


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_nobody_is_left_when_the_owner_dies(make_owner, how):
    """Forks see the end of the lifeline, and the template that nobody orders any more."""
    owner = make_owner()
    pids = [owner.spawn("sleep"), owner.spawn("sleep"), int(owner.ask("template"))]
    os.kill(owner.process.pid, how)

    wait_until(lambda: all(map(is_gone, pids)), timeout=PATIENCE, message="all have left")


SPARE = """
import os, sys, time
from rlm.processes.fork import Spare
from rlm.processes.signals import GRACEFUL, unblock

def be(is_wanted):
    print("ready", flush=True)
    if is_wanted():
        unblock(GRACEFUL)
        print("begun", os.getsid(0) == os.getpid(), flush=True)
        time.sleep(60)

with Spare(be, piped=True) as spare:
    print(spare.pid, spare.stdout.readline().decode().strip(), flush=True)
    if sys.stdin.readline() == "begin\\n":
        spare.begin()
        print(spare.stdout.readline().decode().strip(), flush=True)
        sys.stdin.readline()
        spare.send_signal(15)
        while spare.poll() is None:
            time.sleep(0.01)
print(spare.poll(), flush=True)
"""


@pytest.fixture
def make_spare():
    """Make processes with a spare copy of themselves; none of them is left afterwards."""
    process = subprocess.Popen(
        [sys.executable, "-c", SPARE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    yield process
    process.kill()
    process.wait()
    process.stdin.close()
    process.stdout.close()


def test_a_spare_copy_leaves_unless_it_is_told_to_begin(make_spare):
    """Whoever made it may find that it is not needed."""
    pid, said = make_spare.stdout.readline().split()
    print("leave", file=make_spare.stdin, flush=True)

    assert said == "ready"
    assert make_spare.stdout.readline() == "0\n"
    assert is_gone(int(pid))


def test_a_spare_copy_begins_at_once_and_ends_by_a_signal(make_spare):
    """It is a process in a session of its own, as one that was started."""
    make_spare.stdout.readline()
    print("begin", file=make_spare.stdin, flush=True)
    said = make_spare.stdout.readline()
    print(file=make_spare.stdin, flush=True)

    assert said == "begun True\n"
    assert make_spare.stdout.readline() == "-15\n"
