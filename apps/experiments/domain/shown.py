"""Measured metrics as JSON: what pages draw and exports carry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from apps.experiments.domain.design import Design
from apps.experiments.domain.dimensions import OTHER, cells_pooled
from apps.experiments.domain.measuring import Measured, measure
from apps.experiments.domain.sums import CellRow
from apps.experiments.domain.words import ARMS
from apps.kernel.stats.bayes import normal_posterior
from apps.kernel.stats.comparison import Comparisons
from apps.kernel.stats.difference import probability_above
from apps.kernel.stats.multiple import benjamini_hochberg
from apps.kernel.stats.undefined import Undefined


def measured_show(found: Measured) -> dict[str, Any]:
    """One metric. ``difference`` and ``lift`` hold either numbers or ``undefined`` with its clause."""
    metric = found.metric
    shown: dict[str, Any] = {
        "metric": metric.key,
        "name": metric.label,
        "kind": metric.kind.value,
        "higher_is_better": metric.higher_is_better,
        "quantile": metric.quantile,
        "threshold_seconds": metric.threshold_seconds,
        "arms": {arm: {"units": found.units[i], **_arm(found, i)} for i, arm in enumerate(ARMS)},
        "difference": comparison_show(found.comparison),
        "lift": comparison_show(found.lift) if found.lift is not None else None,
        "chance_above": float(probability_above(found.comparison)),
        "loss": loss_show(found),
    }
    if found.effects is not None:
        shown["clusters"] = dict(zip(ARMS, found.effects, strict=True))
    if found.unadjusted is not None:
        shown["unadjusted"] = comparison_show(found.unadjusted)
        shown["variance_saved"] = found.reduction
    return shown


def loss_show(found: Measured) -> dict[str, float]:
    """What each choice would cost on average if it were the wrong one, in the metric's unit: the posterior mean of the
    loss under a flat prior. ``ship``: of the treatment, ``keep``: of the control. NaN where undefined."""
    posterior = normal_posterior(found.comparison)
    ship, keep = float(posterior.loss_treatment), float(posterior.loss_control)
    return {"ship": ship, "keep": keep} if found.metric.higher_is_better else {"ship": keep, "keep": ship}


def comparison_show(found: Comparisons) -> dict[str, Any]:
    answer = found.at()
    if isinstance(answer, Undefined):
        return {"method": found.method, "undefined": answer.reason.value, "text": answer.text}
    return {
        "method": answer.method,
        "estimate": answer.estimate,
        "lower": answer.lower,
        "upper": answer.upper,
        "standard_error": answer.standard_error,
        "statistic": answer.statistic,
        "df": answer.df,
        "p_value": answer.p_value,
        "alpha": answer.alpha,
    }


def dimensions_show(
    design: Design, cells: Sequence[CellRow], periods: Sequence[int], *, as_of: float
) -> list[dict[str, Any]]:
    """The primary metric in the most frequent values of every dimension, and in all others together, p-values adjusted
    for how many there are: for exploring, never for a verdict."""
    metric = design.primary_metric
    primary = [cell for cell in cells if cell.metric == metric.key and cell.dimension]
    shown = []
    for name in design.dimensions:
        pooled = cells_pooled(primary, name)
        mine = sorted({cell.dimension for cell in pooled}, key=lambda value: (value == f"{name}={OTHER}", value))
        found = [measure(metric, pooled, periods, as_of=as_of, alpha=design.alpha, dimension=value) for value in mine]
        adjusted: Any = benjamini_hochberg([float(one.comparison.p_value) for one in found]) if found else []
        shown.append(
            {
                "dimension": name,
                "values": [
                    {"value": value.partition("=")[2], **measured_show(one), "p_adjusted": float(p)}
                    for value, one, p in zip(mine, found, adjusted, strict=True)
                ],
            }
        )
    return shown


def _arm(found: Measured, index: int) -> dict[str, Any]:
    if found.quantiles is not None:
        return {"value": found.quantiles[index], "standard_error": None}
    if found.pair is None:
        return {"value": None, "standard_error": None}
    arm = found.pair.treatment if index else found.pair.control
    return {"value": float(arm.value), "standard_error": float(arm.variance) ** 0.5}
