"""Probe requests at an endpoint that nobody calls: whether it is time, and one row to ask about. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apps.rollouts.domain.machine import Phase
from apps.rollouts.domain.sight import is_uncalled
from apps.rollouts.domain.state import Policy, RolloutState, Seen

EVERY_SECONDS = 5.0
PROBES = 10
"""Requests to the candidate per time; 2 a second prove "under 1 %" in some minutes and are no load."""

_PROBED = frozenset({Phase.SHIFTING, Phase.BAKING, Phase.GATING, Phase.PROMOTING})


def is_probe_due(state: RolloutState, seen: Seen) -> bool:
    """Whether the candidate should be asked now: by the target's policy, wanted there, up, and called by nobody."""
    if seen.policy is not Policy.PROBE or state.phase not in _PROBED or not state.carries_traffic:
        return False
    if seen.target_error or not seen.route.is_applied or not seen.candidate.is_ready or not is_uncalled(seen):
        return False
    return state.memo.probed_at is None or seen.now - state.memo.probed_at >= EVERY_SECONDS


def plausible_row(inputs: Sequence[Mapping[str, Any]], constraints: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A row inside the signature's types and the declared values and bounds, for a model without an input example.

    ``inputs`` is ``ModelVersion.signature["inputs"]``, ``constraints`` its ``input_constraints``.
    """
    return {column["name"]: _value(column["type"], constraints.get(column["name"], {})) for column in inputs}


def _value(kind: str, declared: Mapping[str, Any]) -> Any:
    """The first declared value in sorted order, else the bound nearest zero, else a neutral one of the type."""
    if declared.get("values"):
        return sorted(declared["values"], key=str)[0]
    if kind in _NEUTRAL:
        return _NEUTRAL[kind]
    low, high = declared.get("min"), declared.get("max")
    if low is not None and low > 0:
        return low
    return high if high is not None and high < 0 else 0


_NEUTRAL: Mapping[str, Any] = {"boolean": False, "string": "", "binary": "", "datetime": "2020-01-01T00:00:00"}
