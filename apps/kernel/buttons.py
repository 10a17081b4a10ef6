"""Buttons of a page: one that cannot be pressed stays visible and says why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Button:
    """``look`` is primary, danger or empty; ``form`` says which panel opens ("" sends at once), ``ask`` what follows
    from pressing it; ``why_not`` is empty where it can be pressed."""

    command: str
    word: str
    look: str = ""
    form: str = ""
    ask: str = ""
    why_not: str = ""


class Pressed(Protocol):
    """What any page's button says of itself."""

    @property
    def word(self) -> str: ...

    @property
    def why_not(self) -> str: ...


def reasons_of(buttons: Sequence[Pressed]) -> list[tuple[list[str], str]]:
    """Why buttons cannot be pressed, each reason once with the words of the buttons it holds for."""
    found: dict[str, list[str]] = {}
    for button in buttons:
        if button.why_not:
            found.setdefault(button.why_not, []).append(button.word)
    return [(words, reason) for reason, words in found.items()]
