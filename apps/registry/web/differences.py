"""What differs between two versions, in the order in which it matters. Pure but for the versions it is given."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from apps.registry.domain.signature import Difference, Signature, breaking_differences
from apps.registry.models import ModelVersion
from apps.registry.web.shown import columns_of

_LOWER = re.compile(
    r"(?:^|[_\-. ])(loss|error|err|rmse|mae|mse|mape|brier|latency|log_?loss|fpr|fnr|perplexity)(?![a-z])", re.I
)
_HIGHER = re.compile(
    r"(?:^|[_\-. ])(auc|accuracy|acc|f1|precision|recall|r2|roc|ap|map|ndcg|score|tpr|kappa)(?![a-z])", re.I
)
_ORDER = {"breaks": 0, "changed": 1, "new": 2, "gone": 3, "same": 4}


@dataclass(frozen=True, slots=True)
class Field:
    """One column of either side; ``mark`` is a key of _ORDER, ``said`` the sentence for what breaks."""

    name: str
    before: str
    after: str
    mark: str
    said: str = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """``level`` is ok for better, bad for worse, unknown where the name does not tell which way is better."""

    name: str
    before: Any
    after: Any
    difference: float | None
    level: str
    word: str


@dataclass(frozen=True, slots=True)
class Pair:
    name: str
    before: Any
    after: Any
    is_same: bool


def signature_of(version: ModelVersion) -> Signature:
    return Signature.of(version.signature, version.input_constraints)


def breaks_of(before: ModelVersion, after: ModelVersion) -> list[Difference]:
    """Why callers of ``before`` cannot be given ``after``."""
    return breaking_differences(signature_of(before), signature_of(after))


def fields_of(before: ModelVersion, after: ModelVersion, side: str) -> list[Field]:
    """Every column of ``inputs`` or ``outputs``, what breaks callers first."""
    broken = {one.column: str(one) for one in breaks_of(before, after) if _side(one) == side}
    left, right = _columns(before, side), _columns(after, side)
    rows = []
    for name in {**left, **right}:
        was, is_now = left.get(name, ""), right.get(name, "")
        mark = "same" if was == is_now else "gone" if not is_now else "new" if not was else "changed"
        rows.append(Field(name, was, is_now, "breaks" if name in broken else mark, broken.get(name, "")))
    return sorted(rows, key=lambda row: _ORDER[row.mark])


def metrics_of(before: ModelVersion, after: ModelVersion) -> list[Metric]:
    """By name; those that both have first."""
    names = sorted({**before.metrics, **after.metrics}, key=lambda name: (not _both(name, before, after), name))
    return [_metric(name, before.metrics.get(name), after.metrics.get(name)) for name in names]


def pairs_of(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Pair]:
    """Keys of either, what changed first."""
    pairs = [Pair(name, before.get(name), after.get(name), before.get(name) == after.get(name))
             for name in sorted({**before, **after})]  # fmt: skip
    return sorted(pairs, key=lambda pair: pair.is_same)


def better_up(name: str) -> bool | None:
    """Whether a higher value is better, as far as a metric's name tells."""
    if _LOWER.search(name):
        return False
    return True if _HIGHER.search(name) else None


def _metric(name: str, before: Any, after: Any) -> Metric:
    if not _is_number(before) or not _is_number(after):
        return Metric(name, before, after, None, "unknown", "")
    difference = after - before
    if difference == 0:
        return Metric(name, before, after, 0.0, "unknown", "the same")
    is_up, up_is_better = difference > 0, better_up(name)
    if up_is_better is None:
        return Metric(name, before, after, difference, "unknown", "higher" if is_up else "lower")
    is_better = is_up == up_is_better
    return Metric(name, before, after, difference, "ok" if is_better else "bad", "better" if is_better else "worse")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _both(name: str, before: ModelVersion, after: ModelVersion) -> bool:
    return name in before.metrics and name in after.metrics


def _side(one: Difference) -> str:
    return "outputs" if one.what.value.startswith("output") else "inputs"


def _columns(version: ModelVersion, side: str) -> dict[str, str]:
    """What each column is, in words that two versions can be compared by."""
    if side == "outputs":
        entries = version.signature.get("outputs", [])
        return {str(one["name"]) or f"#{place}": str(one["type"]) for place, one in enumerate(entries)}
    return {one["name"]: _said(one) for one in columns_of(version)}


def _said(column: Mapping[str, Any]) -> str:
    need = "" if column.get("required", True) else ", optional"
    null = ", null allowed" if column["nullable"] else ""
    span = "" if column["allowed"] == "any value of the type" else f", {column['allowed']}"
    return f"{column['type']}{need}{null}{span}"
