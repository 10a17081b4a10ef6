"""The part of the runtime lock that the serving program needs. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

SERVER = ("httpx", "mlflow", "numpy", "orjson", "pandas", "structlog", "uvicorn")
"""What the serving program imports; tests/images compares it with the imports themselves."""
OWN = frozenset({"httpx", "mlflow", "mlflow-skinny", "mlflow-tracing", "orjson", "structlog", "uvicorn"})
"""Of these the server's version counts, whatever the model was saved with; of all others the model's."""
_HEAD = re.compile(r"^(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[^\s\\;]+)")
_VIA = re.compile(r"^    #\s+(?:via\s+)?(?P<name>[a-z0-9][a-z0-9.-]*)\s*$")


@dataclass(frozen=True, slots=True)
class Locked:
    """One package: the lines of the lock, hashes included, and who asked for it."""

    name: str
    version: str
    text: str
    via: frozenset[str]


def read_lock(text: str) -> tuple[Locked, ...]:
    """Every package of a lock with hashes that says ``via`` whom. Raises ValueError for one without hashes."""
    found = tuple(_entries(text))
    if not found or any("--hash=sha256:" not in one.text for one in found):
        raise ValueError("the lock holds no packages, or some without hashes")
    return found


def server_part(locked: Iterable[Locked], roots: Iterable[str] = SERVER) -> tuple[Locked, ...]:
    """``roots`` and everything that they, and what they ask for, ask for. Raises ValueError for a root not locked."""
    every = {one.name: one for one in locked}
    missing = set(roots) - every.keys()
    if missing:
        raise ValueError(f"not in the lock: {', '.join(sorted(missing))}")
    wanted = set(roots)
    while more := {one.name for one in every.values() if one.name not in wanted and one.via & wanted}:
        wanted |= more
    return tuple(one for one in every.values() if one.name in wanted)


def lock_text(locked: Iterable[Locked]) -> str:
    """For ``pip install --require-hashes``."""
    return "".join(one.text for one in locked)


def constraints_text(locked: Iterable[Locked], pinned: Iterable[str]) -> str:
    """For ``pip install -c``: the lock's versions, but for packages of which the model names its own."""
    free = set(pinned) - OWN
    return "".join(f"{one.name}=={one.version}\n" for one in locked if one.name not in free)


def _entries(text: str) -> Iterator[Locked]:
    lines: list[str] = []
    for line in [*text.splitlines(), "end=="]:
        if _HEAD.match(line) or line == "end==":
            if lines:
                yield _entry(lines)
            lines = [line]
        elif lines and line.startswith("    "):
            lines.append(line)


def _entry(lines: list[str]) -> Locked:
    name, _, rest = lines[0].partition("==")
    via = {found["name"] for line in lines[1:] if (found := _VIA.match(line))}
    kept = "".join(f"{line}\n" for line in lines if not line.lstrip().startswith("#"))
    return Locked(name, rest.split()[0].rstrip("\\;"), kept, frozenset(via))
