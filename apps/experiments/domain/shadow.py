"""Two versions on the same inputs: how often they agree, who flips what, by how much their scores differ, and who is
right more often. Pure.

An answer is a class (text, boolean, or a whole number where everything is one) or a score. A request of several rows is
as many answers. Pairs with the truth give McNemar's test; pairs without it still say where the versions differ.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from apps.kernel.stats.means import paired_t_values
from apps.kernel.stats.paired import PairedCounts, mcnemar
from apps.kernel.stats.planning.paired import mcnemar_inputs
from apps.kernel.stats.planning.proportions import sample_size
from apps.kernel.stats.undefined import Undefined

QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MAX_FLIPS, MAX_SEGMENTS = 20, 20
NEARLY = 1e-9


@dataclass(frozen=True, slots=True)
class Pair:
    """One input: both answers, the truth (None: not known), and the value of the segment ("" for none)."""

    first: Any
    second: Any
    truth: Any = None
    segment: str = ""


def pairs_of(
    inputs: Mapping[str, Any], first: Sequence[Any], second: Sequence[Any], label: Any, segment: str
) -> Iterator[Pair]:
    """The rows of one request. A label of a request of several rows is a list of as many, or it labels nothing."""
    rows = min(len(first), len(second))
    truths = label if isinstance(label, list) and len(label) == rows else [label if rows == 1 else None] * rows
    values = inputs.get(segment) if segment else None
    for place in range(rows):
        value = values[place] if isinstance(values, list) and place < len(values) else None
        yield Pair(_answer(first[place]), _answer(second[place]), truths[place], "" if value is None else str(value))


def compare(pairs: Sequence[Pair], *, alpha: float = 0.05) -> dict[str, Any]:
    """Everything that is said of the pairs, as JSON; numbers that do not exist are None."""
    scored = [pair for pair in pairs if _is_score(pair.first) and _is_score(pair.second)]
    is_score = len(scored) == len(pairs) and any(_is_fraction(p.first) or _is_fraction(p.second) for p in pairs)
    segments = Counter(pair.segment for pair in pairs if pair.segment)
    return {
        "kind": "score" if is_score else "class",
        "pairs": len(pairs),
        "labelled": sum(pair.truth is not None for pair in pairs),
        "agreement": _agreement(pairs),
        "flips": [] if is_score else _flips(pairs),
        "scores": _scores(pairs, alpha) if is_score else None,
        "right": None if is_score else _right(pairs, alpha),
        "segments": [
            {
                "segment": name,
                "pairs": count,
                "agreement": _agreement(mine),
                "right": None if is_score else _right(mine, alpha),
                "scores": _scores(mine, alpha) if is_score else None,
            }
            for name, count in segments.most_common(MAX_SEGMENTS)
            for mine in [[pair for pair in pairs if pair.segment == name]]
        ],
    }


def _agreement(pairs: Sequence[Pair]) -> float | None:
    return sum(_same(pair.first, pair.second) for pair in pairs) / len(pairs) if pairs else None


def _flips(pairs: Sequence[Pair]) -> list[dict[str, Any]]:
    """From which answer to which, most frequent first."""
    found = Counter((str(p.first), str(p.second)) for p in pairs if not _same(p.first, p.second))
    return [{"from": a, "to": b, "count": count} for (a, b), count in found.most_common(MAX_FLIPS)]


def _scores(pairs: Sequence[Pair], alpha: float) -> dict[str, Any] | None:
    """Second minus first: quantiles of the differences, and their mean with its interval (paired t)."""
    if not pairs:
        return None
    first = np.array([float(pair.first) for pair in pairs])
    second = np.array([float(pair.second) for pair in pairs])
    delta = second - first
    found = paired_t_values(first, second, alpha=alpha).at()
    mean = {"undefined": found.text} if isinstance(found, Undefined) else _numbers(found)
    return {
        "quantiles": {str(q): float(x) for q, x in zip(QUANTILES, np.quantile(delta, QUANTILES), strict=True)},
        "largest": float(np.abs(delta).max()),
        "mean": mean,
    }


def _right(pairs: Sequence[Pair], alpha: float) -> dict[str, Any]:
    """Who is right more often, on the labelled pairs; and how many labels the present disagreement would need."""
    known = [pair for pair in pairs if pair.truth is not None]
    flags = [(_same(p.first, p.truth), _same(p.second, p.truth)) for p in known]
    counts = PairedCounts.of_flags([a for a, _ in flags], [b for _, b in flags])
    found = mcnemar(counts, alpha=alpha).at()
    n = len(known)
    test = {"undefined": found.text} if isinstance(found, Undefined) else _numbers(found)
    return {
        "both": int(counts.both),
        "only_first": int(counts.only_control),
        "only_second": int(counts.only_treatment),
        "neither": int(counts.neither),
        "accuracy": [sum(a for a, _ in flags) / n if n else None, sum(b for _, b in flags) / n if n else None],
        "test": test,
        "labels_needed": _needed(flags, alpha),
        "ab_units": _ab_units(flags, alpha),
    }


def _needed(flags: Sequence[tuple[bool, bool]], alpha: float) -> int | None:
    """Labelled inputs for 80 % power at the difference and the disagreement seen so far: to plan the next comparison,
    never to judge this one."""
    if not flags:
        return None
    first, second = (sum(flag[i] for flag in flags) / len(flags) for i in (0, 1))
    disagreement = sum(a != b for a, b in flags) / len(flags)
    if not (0.0 < first < 1.0 and 0.0 < second < 1.0 and first != second and 0.0 < disagreement < 1.0):
        return None
    try:
        return math.ceil(mcnemar_inputs(first, second, disagreement, alpha=alpha).value)
    except ValueError:  # so few pairs give a disagreement that no two accuracies have
        return None


def _ab_units(flags: Sequence[tuple[bool, bool]], alpha: float) -> int | None:
    """What an A/B test would need for the same two accuracies: labelled units over both arms, 80 % power."""
    if _needed(flags, alpha) is None:
        return None
    first, second = (sum(flag[i] for flag in flags) / len(flags) for i in (0, 1))
    return sample_size(first, second, alpha=alpha).total


def labels_plan(accuracy: float, difference: float, disagreement: float, *, alpha: float = 0.05) -> dict[str, Any]:
    """Labelled inputs to tell two accuracies apart at 80 % power: on the same inputs, and by an A/B test. Raises
    ValueError naming what is impossible."""
    paired = mcnemar_inputs(accuracy, accuracy + difference, disagreement, alpha=alpha)
    apart = sample_size(accuracy, accuracy + difference, alpha=alpha)
    labels = math.ceil(paired.value)
    return {
        "labels": labels,
        "ab_units": apart.total,
        "times_fewer": apart.total / labels,
        "recipe": {"formula": paired.recipe.formula, "r": paired.recipe.r, "python": paired.recipe.python},
    }


def _numbers(found: Any) -> dict[str, Any]:
    return {
        "method": found.method,
        "estimate": found.estimate,
        "lower": found.lower,
        "upper": found.upper,
        "p_value": found.p_value,
    }


def _answer(value: Any) -> Any:
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _is_score(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_fraction(value: Any) -> bool:
    return isinstance(value, float) and not value.is_integer()


def _same(one: Any, other: Any) -> bool:
    if _is_score(one) and _is_score(other):
        return math.isclose(one, other, rel_tol=NEARLY, abs_tol=NEARLY)
    return bool(one == other)
