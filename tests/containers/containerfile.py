"""Parses docs/containers/Containerfile into its stages and their steps."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
CONTAINERFILE = ROOT / "docs" / "containers" / "Containerfile"


@dataclass(frozen=True)
class Step:
    """An instruction and its arguments, on one line."""

    name: str
    said: str

    @property
    def words(self):
        """The arguments of the exec form, as a list."""
        return json.loads(self.said)

    @property
    def pairs(self):
        """The values that ENV or LABEL sets."""
        return dict(word.partition("=")[::2] for word in shlex.split(self.said))


@dataclass
class Stage:
    """A FROM with the steps after it."""

    base: str
    name: str
    steps: list[Step] = field(default_factory=list)

    def last(self, name):
        """Return the last step of this name."""
        return [step for step in self.steps if step.name == name][-1]

    @property
    def env(self):
        """The environment of its processes."""
        return {key: value for step in self.steps if step.name == "ENV" for key, value in step.pairs.items()}

    @property
    def health(self):
        """The command of its health check, in exec form, and the options before it."""
        options, _, command = self.last("HEALTHCHECK").said.partition(" CMD ")
        return json.loads(command), dict(option.removeprefix("--").split("=") for option in options.split())


def stages(text=None):
    """Return the stages in order; the last one is the image."""
    text = CONTAINERFILE.read_text(encoding="utf-8") if text is None else text
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = []
    for line in "\n".join(lines).replace("\\\n", " ").splitlines():
        name, _, said = line.strip().partition(" ")
        said = " ".join(said.split()) if name != "RUN" else said.strip()
        if name == "FROM":
            base, named = re.fullmatch(r"(\S+)(?: AS (\S+))?", said).groups()
            found.append(Stage(base, named or ""))
        else:
            found[-1].steps.append(Step(name, said))
    return found
