"""Guardrails of an experiment: each guards alone, one-sided, at every look, in three verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from apps.experiments.domain.design import Design, Guardrail, Metric
from apps.experiments.domain.measuring import Measured, measure, possible
from apps.experiments.domain.sums import CellRow, cells_of, histogram_from
from apps.experiments.domain.words import MetricKind, Source
from apps.kernel.stats.confidence_sequence import confidence_sequence
from apps.kernel.stats.decision import GuardrailResult, difference_words
from apps.kernel.stats.guardrails import (
    GuardrailVerdict,
    non_inferiority_of,
    share_difference_bounds,
    share_guardrail,
)
from apps.kernel.stats.histogram import merge_many
from apps.kernel.stats.undefined import Reason, Undefined

TREATMENT = 1
SAME = 1e-9
"""How far a share may lie from 0 or 1 by rounding alone: periods' weights do not quite sum to 1."""


def judge(
    design: Design,
    rail: Guardrail,
    cells: Sequence[CellRow],
    periods: Sequence[int],
    *,
    as_of: float,
    tuned_total: int,
) -> tuple[GuardrailResult, dict[str, Any]]:
    """The verdict and its numbers: ``lower``/``upper`` bound the share (limit) or the difference (margin)."""
    metric = design.metric(rail.metric)
    if metric is None:
        raise ValueError(f"guardrail {rail.metric!r} is no metric of the design")
    if rail.limit is not None:
        return _limited(metric, rail.limit, cells, design.alpha)
    return _margin(metric, rail.margin or 0.0, cells, periods, as_of, design.alpha, tuned_total)


def _limited(
    metric: Metric, limit: float, cells: Sequence[CellRow], alpha: float
) -> tuple[GuardrailResult, dict[str, Any]]:
    """The treatment's own requests against a limit: exact at every request."""
    used = [cell for cell in cells_of(cells, metric.key) if cell.arm == TREATMENT]
    if metric.source is Source.LATENCY:
        merged = merge_many([histogram_from(cell.histogram) for cell in used])
        over = merged.count_over(metric.threshold_seconds or 0.0)
        bad, most, total, what = over.surely, over.possibly, merged.total, f"over {metric.threshold_seconds:g} s"
    else:
        bad = most = round(sum(cell.sums[0] for cell in used))
        total, what = sum(cell.n for cell in used), "failed"
    found = share_guardrail(bad, total, limit, alpha=alpha, what=what, possibly_bad=most)
    numbers = {
        "kind": "limit", "limit": limit, "bad": bad, "total": total, "lower": found.lower, "upper": found.upper,
        "requests_for_proof": found.requests_for_proof,
    }  # fmt: skip
    return GuardrailResult(metric.label, found.verdict, found.reason), numbers


def _margin(
    metric: Metric,
    margin: float,
    cells: Sequence[CellRow],
    periods: Sequence[int],
    as_of: float,
    alpha: float,
    tuned_total: int,
) -> tuple[GuardrailResult, dict[str, Any]]:
    found = measure(metric, cells, periods, as_of=as_of, alpha=alpha)
    answer = found.comparison.at()
    if isinstance(answer, Undefined):
        return _unvaried(found, answer, margin, alpha)
    # two-sided at twice alpha: its ends are one-sided bounds at alpha
    both_sides, tuned = min(2 * alpha, 0.999), max(tuned_total, 2)
    sequence = confidence_sequence(found.comparison, found.total, tuned, alpha=both_sides, alike=found.alike)
    lower, upper = possible(metric, float(sequence.lower), float(sequence.upper))
    return _judged(metric, answer.estimate, (lower, upper), margin)


def _unvaried(
    found: Measured, answer: Undefined, margin: float, alpha: float
) -> tuple[GuardrailResult, dict[str, Any]]:
    """No difference can be tested. Where a share is 0 % (or 100 %) in both arms, their exact bounds may still prove
    that it lies within the margin: a guardrail that nothing ever touched must not hold up the decision."""
    metric, pair = found.metric, found.pair
    is_share = metric.kind is MetricKind.PROPORTION and not metric.has_covariate
    share = float(pair.control.value) if pair is not None else np.nan
    is_same_everywhere = is_share and min(abs(share), abs(share - 1.0)) < SAME
    if answer.reason is not Reason.ZERO_VARIANCE or not is_same_everywhere:
        words = f"not enough data: {answer.text}"
        empty = {"kind": "margin", "margin": margin, "estimate": np.nan, "lower": np.nan, "upper": np.nan}
        return GuardrailResult(metric.label, GuardrailVerdict.NOT_ENOUGH_DATA, words), empty
    control, treatment = ((round(share) * units, units) for units in found.units)
    bounds = share_difference_bounds(control, treatment, alpha=alpha)
    return _judged(metric, 0.0, bounds, margin, seen=f"{100 * round(share)} % in both arms, ")


def _judged(
    metric: Metric, estimate: float, bounds: tuple[float, float], margin: float, *, seen: str = ""
) -> tuple[GuardrailResult, dict[str, Any]]:
    verdict = GuardrailVerdict(str(non_inferiority_of(*bounds, margin, higher_is_better=metric.higher_is_better)))
    numbers = {"kind": "margin", "margin": margin, "estimate": estimate, "lower": bounds[0], "upper": bounds[1]}
    return GuardrailResult(metric.label, verdict, seen + _words(metric, estimate, bounds, margin, verdict)), numbers


def _words(
    metric: Metric, estimate: float, bounds: tuple[float, float], margin: float, verdict: GuardrailVerdict
) -> str:
    if not all(map(np.isfinite, bounds)):
        return "not enough data: nothing can be said yet"
    said = {
        GuardrailVerdict.SAFE: "surely no worse than the margin",
        GuardrailVerdict.HARMED: "surely worse than the margin",
        GuardrailVerdict.NOT_ENOUGH_DATA: "not enough data to tell it from the margin",
    }[verdict]
    is_share = metric.kind is MetricKind.PROPORTION
    points = 100 * margin
    limit = f"{points:g} point{'' if points == 1 else 's'}" if is_share else f"{margin:g}"
    return f"{difference_words(estimate, *bounds, is_share=is_share)}: {said}, {limit}"
