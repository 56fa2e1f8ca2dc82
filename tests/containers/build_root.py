"""Builds the image without a container engine: executes the steps of its Containerfile in fresh roots.

    uv build --wheel && uv run python -m tests.containers.build_root DIRECTORY

The base is made by debootstrap, like the base image of that name. The steps of each stage are those of the
Containerfile, executed in a copy of its base by chroot; a step that cannot be executed is refused. It needs root, Linux
and a mirror.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from tests.containers.containerfile import ROOT, stages

#: The arguments of debootstrap for each base; a slim image has no documentation.
BASES = {"debian:trixie-slim": "trixie"}
_SLIMMED = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "var/lib/apt/lists",
    "var/cache/apt",
)
#: What an engine provides to a step and does not keep: name resolution, and where pip finds its index and certificates.
_LENT = "/run/lent"
_PIP = ("PIP_INDEX_URL", "PIP_CERT")
#: Nothing to execute: what a step may be given (`_PIP`), and what a process of the image finds.
_DESCRIBING = {"ARG", "LABEL", "USER", "HEALTHCHECK", "ENTRYPOINT", "CMD"}


class Build:
    """The stages of the Containerfile, each a root below one directory."""

    def __init__(self, directory, context=ROOT):
        self.directory = Path(directory)
        self._context = context
        self._roots = {}

    def build(self):
        """Execute all steps; return the root of the image."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for number, stage in enumerate(stages()):
            root = self.directory / (stage.name or "image")
            base = self._roots.get(stage.base) or self._bootstrapped(stage.base)
            shutil.rmtree(root, ignore_errors=True)
            subprocess.run(["cp", "--archive", "--reflink=auto", base, root], check=True)
            for step in stage.steps:
                print(f"[{number + 1}] {step.name} {step.said[:90]}", flush=True)
                self._execute(step, root, stage)
            self._roots[stage.name] = root
        return root

    def _bootstrapped(self, image):
        suite = BASES[image]
        base = self.directory / f"base-{suite}"
        if not (base / "etc/debian_version").exists():
            command = ["debootstrap", "--variant=minbase", suite, str(base)]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            for place in _SLIMMED:
                shutil.rmtree(base / place, ignore_errors=True)
                (base / place).mkdir()
            (base / "var/cache/apt/archives/partial").mkdir(parents=True)
        return base

    def _execute(self, step, root, stage):
        if step.name == "RUN":
            self._run(step.said, root, stage.env)
        elif step.name == "COPY":
            self._copy(step.said, root)
        elif step.name == "WORKDIR":
            (root / step.said.lstrip("/")).mkdir(parents=True, exist_ok=True)
        elif step.name != "ENV" and step.name not in _DESCRIBING:
            raise SystemExit(f"{step.name} cannot be executed here")

    def _copy(self, said, root):
        option = re.match(r"--from=(\S+) ", said)
        source = self._roots[option[1]] if option else self._context
        *froms, to = said[option.end() if option else 0 :].split()
        target = root / to.lstrip("/")
        for pattern in froms:
            found = sorted(source.glob(pattern.lstrip("/")))
            if not found:
                raise SystemExit(f"COPY finds no {pattern}; `uv build --wheel` makes the wheel")
            for one in found:
                if to.endswith("/"):
                    target.mkdir(parents=True, exist_ok=True)
                subprocess.run(["cp", "--archive", one, target], check=True)

    def _run(self, script, root, environ):
        """Run a step by the root's own shell, in its own namespaces, with nothing of this environment."""
        env = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", **environ}
        env |= {"DEBIAN_FRONTEND": "noninteractive"} | {name: os.environ[name] for name in _PIP if name in os.environ}
        lent = [
            "mkdir -p run/lent",
            "cp -L /etc/resolv.conf run/lent/",
            "mount --bind run/lent/resolv.conf etc/resolv.conf",
        ]
        if certificates := env.get("PIP_CERT"):
            lent.append(f"cp -L {certificates} run/lent/certificates.pem")
            env["PIP_CERT"] = f"{_LENT}/certificates.pem"
        setup = ["set -e", "touch etc/resolv.conf", "mount -t tmpfs none run", *lent]
        setup += ["mount -t proc none proc", "mount --rbind /dev dev"]
        inside = [f'exec chroot . /usr/bin/env -i {" ".join(f"{k}={v}" for k, v in env.items())} /bin/sh -c "$STEP"']
        command = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", "\n".join(setup + inside)]
        done = subprocess.run(
            command, cwd=root, env={**os.environ, "STEP": script}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(
                f"RUN {script}\nends with exit status {done.returncode}:\n{(done.stdout + done.stderr)[-3000:]}"
            )


def size_of(root):
    """Return the total size of a root's files, bytes."""
    return sum(path.lstat().st_size for path in Path(root).rglob("*") if path.is_file() and not path.is_symlink())


if __name__ == "__main__":
    image = Build(sys.argv[1]).build()
    print(f"{image}: {size_of(image) / 1e6:.0f} MB")
