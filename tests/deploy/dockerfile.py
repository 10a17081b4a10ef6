"""A small reader of Dockerfiles: enough for the questions that can be asked without an engine."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCKERFILES = ("Dockerfile", "serving/Dockerfile")


@dataclass(frozen=True)
class Instruction:
    name: str
    text: str


@dataclass(frozen=True)
class Dockerfile:
    """The instructions in order, continuation lines joined, comments gone."""

    instructions: tuple[Instruction, ...]

    @classmethod
    def read(cls, path: str) -> Dockerfile:
        lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        joined = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
        logical = [line.strip() for line in re.sub(r"\\\n\s*", " ", joined).splitlines()]
        return cls(tuple(Instruction(*line.split(None, 1)) for line in logical if line))

    @property
    def final(self) -> tuple[Instruction, ...]:
        """The instructions of the last stage."""
        begin = max(place for place, one in enumerate(self.instructions) if one.name == "FROM")
        return self.instructions[begin:]

    def all(self, name: str, *, final: bool = False) -> list[str]:
        return [one.text for one in (self.final if final else self.instructions) if one.name == name]

    def copied(self) -> list[str]:
        """The sources in the build context that the last stage copies."""
        copies = [shlex.split(text) for text in self.all("COPY", final=True)]
        return [source for parts in copies if not parts[0].startswith("--from") for source in parts[:-1]]

    def command(self) -> list[str]:
        (text,) = self.all("CMD", final=True)
        return [str(part) for part in json.loads(text)]

    def environment(self) -> dict[str, str]:
        pairs = [pair for text in self.all("ENV", final=True) for pair in shlex.split(text)]
        return dict(pair.split("=", 1) for pair in pairs)
