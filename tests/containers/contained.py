"""Runs the image's processes like an engine: another user, a read-only root, separate namespaces."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from pathlib import Path

from tests.containers.containerfile import stages
from tests.wait import wait_until

#: Writable places; each is its own file system, which disappears with the process.
WRITABLE = ("/tmp", "/var/lib/rlm")


class Contained:
    """A process of the image in `root`: `rlm` with arguments. It is process 1 of its namespace.

    `files` is mounted over /etc/rlm, read-only too. Without `network` it has only a loopback interface.
    """

    def __init__(self, root, *words, files=None, env=None, network=False, entrypoint=None):
        image = stages()[-1]
        uid, gid = image.last("USER").said.split(":")
        said = {**image.env, **(env or {})}
        mounts = ["set -e", f"mount --bind {root} {root}", f"cd {root}"]
        mounts += [f"mount -t tmpfs -o mode=1777 none .{place}" for place in WRITABLE]
        mounts += ["mount -t proc none proc", "mount -t tmpfs -o mode=755 none dev"]
        mounts += ["ln -s /proc/self/fd dev/fd", "mkdir dev/shm", "mount -t tmpfs -o mode=1777 none dev/shm"]
        for device in ("null", "zero", "random", "urandom"):
            mounts.append(f"touch dev/{device} && mount --bind /dev/{device} dev/{device}")
        if files:
            mounts.append(f"mount --bind {files} etc/rlm && mount -o remount,ro,bind etc/rlm")
        mounts += [f"mount -o remount,ro,bind {root}", "[ -e /proc/self/ns/net ]"]
        if not network:
            mounts.append("ip link set lo up")
        drop = f"setpriv --reuid={uid} --regid={gid} --clear-groups --no-new-privs --inh-caps=-all --bounding-set=-all"
        variables = " ".join(shlex.quote(f"{name}={value}") for name, value in said.items())
        command = shlex.join([*(entrypoint or image.last("ENTRYPOINT").words), *words])
        inside = f"exec chroot . {drop} env -i -C {image.last('WORKDIR').said} {variables} {command}"
        spaces = ["--mount", "--pid", "--ipc", "--uts", *([] if network else ["--net"])]
        self._process = subprocess.Popen(
            ["unshare", *spaces, "--fork", "--kill-child", "sh", "-c", "\n".join([*mounts, inside])],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @property
    def pid(self):
        """The pid of the process on this machine."""
        outer = self._process.pid
        wait_until(lambda: Path(f"/proc/{outer}/task/{outer}/children").read_text().split(), message="it is born")
        return int(Path(f"/proc/{outer}/task/{outer}/children").read_text().split()[0])

    def run(self, *command):
        """Run another program in it, like `exec` of an engine; return how it ended."""
        image = stages()[-1]
        uid, gid = image.last("USER").said.split(":")
        variables = [f"{name}={value}" for name, value in image.env.items()]
        enter = ["nsenter", f"--target={self.pid}", "--all", f"--setuid={uid}", f"--setgid={gid}"]
        enter += [f"--root=/proc/{self.pid}/root", f"--wd=/proc/{self.pid}/cwd"]
        return subprocess.run(
            [*enter, "env", "-i", *variables, *command], capture_output=True, text=True, check=False, timeout=60
        )

    def finish(self, seconds):
        """Wait for its end; return its exit status and its output."""
        said, _ = self._process.communicate(timeout=seconds)
        return self._process.returncode, said

    def stop(self, seconds):
        """Send TERM to process 1, like an engine, and wait for its end; return the same."""
        os.kill(self.pid, signal.SIGTERM)
        return self.finish(seconds)

    def __enter__(self):
        return self

    def __exit__(self, *_exc):
        if self._process.poll() is None:
            os.kill(self.pid, signal.SIGKILL)  # the kernel ends the others of its name space
        self._process.kill()
        self._process.communicate()
