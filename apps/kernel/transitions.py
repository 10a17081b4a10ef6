"""A transition table: what may follow what. A missing key is an illegal transition (409)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Generic, TypeVar

from apps.kernel.errors import Conflict

P = TypeVar("P", bound=StrEnum)


class IllegalTransition(Conflict):
    pass


class Transitions(Generic[P]):
    """Wraps ``{(phase, action name): phase}``."""

    def __init__(self, table: Mapping[tuple[P, str], P]) -> None:
        self.table = dict(table)

    def next(self, phase: P, action: str) -> P:
        """The phase that ``action`` leads to from ``phase``. Raises IllegalTransition."""
        try:
            return self.table[phase, action]
        except KeyError:
            allowed = ", ".join(sorted(name for at, name in self.table if at == phase)) or "nothing"
            raise IllegalTransition(
                "illegal_transition",
                f"{action} is not possible while {phase.value}; possible now: {allowed}.",
                extra={"phase": phase.value, "action": action},
            ) from None

    def reachable(self, start: P) -> frozenset[P]:
        """Every phase that some sequence of actions leads to from ``start``, ``start`` included."""
        seen, todo = {start}, [start]
        while todo:
            at = todo.pop()
            for (source, _), target in self.table.items():
                if source == at and target not in seen:
                    seen.add(target)
                    todo.append(target)
        return frozenset(seen)

    def to_mermaid(self, terminal: Iterable[P]) -> str:
        """A Mermaid state diagram, one line per table row, in a stable order."""
        rows = sorted(self.table.items(), key=lambda item: (item[0][0].value, item[0][1]))
        lines = ["stateDiagram-v2"]
        lines += [f"    {source.value} --> {target.value}: {name}" for (source, name), target in rows]
        lines += [f"    {phase.value} --> [*]" for phase in sorted(terminal, key=lambda phase: phase.value)]
        return "\n".join(lines) + "\n"
