"""Guardrails of an experiment: each guards alone, one-sided, at every look, in three verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from apps.experiments.domain.design import Design, Guardrail, Metric
from apps.experiments.domain.measuring import Measured, measure
from apps.experiments.domain.sums import CellRow, cells_of, histogram_from
from apps.experiments.domain.words import Source
from apps.kernel.stats.confidence_sequence import Sequence as Bounds
from apps.kernel.stats.confidence_sequence import confidence_sequence
from apps.kernel.stats.decision import GuardrailResult
from apps.kernel.stats.guardrails import GuardrailVerdict, non_inferiority, share_guardrail
from apps.kernel.stats.histogram import merge_many
from apps.kernel.stats.undefined import Undefined

TREATMENT = 1


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
    # two-sided at twice alpha: its ends are one-sided bounds at alpha
    sequence = confidence_sequence(found.comparison, found.total, max(tuned_total, 2), alpha=min(2 * alpha, 0.999))
    verdict = GuardrailVerdict(str(non_inferiority(sequence, margin, higher_is_better=metric.higher_is_better)))
    numbers = {
        "kind": "margin",
        "margin": margin,
        "estimate": float(found.comparison.estimate),
        "lower": float(sequence.lower),
        "upper": float(sequence.upper),
    }
    return GuardrailResult(metric.label, verdict, _words(found, sequence, margin, verdict)), numbers


def _words(found: Measured, sequence: Bounds, margin: float, verdict: GuardrailVerdict) -> str:
    answer = found.comparison.at()
    if isinstance(answer, Undefined):
        return f"not enough data: {answer.text}"
    if not np.isfinite(float(sequence.lower)):
        return "not enough data: nothing can be said yet"
    numbers = f"{answer.estimate:+.4g} (between {float(sequence.lower):+.4g} and {float(sequence.upper):+.4g})"
    said = {
        GuardrailVerdict.SAFE: "surely no worse than the margin",
        GuardrailVerdict.HARMED: "surely worse than the margin",
        GuardrailVerdict.NOT_ENOUGH_DATA: "not enough data to tell it from the margin",
    }[verdict]
    return f"{numbers}: {said} {margin:g}"
