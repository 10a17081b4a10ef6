"""What each strategy costs and protects against, for the cards of the wizard; ``path`` draws the candidate's share."""

from __future__ import annotations

from typing import Final

CARDS: Final[list[dict[str, str]]] = [
    {
        "value": "canary",
        "word": "Canary",
        "path": "M2 26H16V24H32V18H46V12H60V3H74",
        "sub": "A few callers first, then 25, 50 and 100 %. "
        "Costs time and a second process; a bad version meets few callers.",
    },
    {
        "value": "blue_green",
        "word": "Blue-green",
        "path": "M2 26H40V3H74",
        "sub": "Tried on copies of all requests, then all callers at once, the old version kept ready. "
        "Costs double capacity; the way back is instant.",
    },
    {
        "value": "shadow",
        "word": "Shadow",
        "path": "M2 26H74",
        "dash": "M2 6H74",
        "sub": "Gets copies of requests, answers nobody. "
        "Costs double capacity; no caller is ever at risk, nothing is promoted.",
    },
    {
        "value": "ab",
        "word": "A/B",
        "path": "M2 26H12V15H58V3H74",
        "sub": "Both serve, each its share, until an experiment decides by a number that you name. "
        "Costs weeks rather than hours; says whether the new version is better, not only that it is not broken.",
    },
    {
        "value": "recreate",
        "word": "Recreate",
        "path": "M2 26H30M44 3H74",
        "sub": "Stops the old version, then starts the new one. "
        "Costs a declared downtime; for targets with room for one version only.",
    },
]

APPROVAL_CARDS: Final = (
    ("no", "Nobody", "Guardrails and gates decide alone."),
    ("one", "One person", "Asked with what was measured until then; a rejection rolls back."),
    ("two", "Two people", "Both must approve; one rejection rolls back."),
)
"""(value, word, sub) of how many must approve before all callers get the new version."""
