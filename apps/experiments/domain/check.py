"""What a design must be before anything runs: every fault at once, each naming its field and the way out."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from apps.experiments.domain.design import FULL_BP, Design, Guardrail, Metric
from apps.experiments.domain.words import ARMS, MetricKind, Source, Unit
from apps.kernel.errors import FieldError, InvalidInput

MAX_METRICS = 20
MAX_DIMENSIONS = 5
MAX_TOTAL = 10**12
KEY = re.compile(r"^[a-z][a-z0-9_]{0,39}$")
Faults = Iterator[FieldError]


def design_parse(raw: Mapping[str, Any]) -> Design:
    """The design that ``raw`` is. Raises InvalidInput with every fault; pointers begin with /design."""
    try:
        design = Design.from_json(raw)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InvalidInput.at("/design", "malformed", f"The design cannot be read: {_said(error)}.") from error
    design_check(design)
    return design


def design_check(design: Design) -> None:
    """Raises InvalidInput naming every field that is wrong."""
    faults = tuple(design_faults(design))
    if faults:
        first = faults[0]
        more = f" ({len(faults) - 1} more)" if len(faults) > 1 else ""
        raise InvalidInput(first.code, f"{first.detail}{more}", fields=faults)


def design_faults(design: Design) -> Faults:
    """Every fault, in the order of the form."""
    for check in CHECKS:
        yield from check(design)


def _hypothesis(design: Design) -> Faults:
    if not design.hypothesis.strip():
        yield _at("hypothesis", "required", "hypothesis must say what you expect and why, before you look.")
    elif len(design.hypothesis) > 2000:
        yield _at("hypothesis", "too_long", "hypothesis has at most 2,000 characters.")


def _weights(design: Design) -> Faults:
    for arm in ARMS:
        weight = design.weights_bp.get(arm, 0)
        if not 1 <= weight < FULL_BP:
            yield _at(
                f"weights_bp/{arm}",
                "no_weight",
                f"weights_bp: the arm {arm} has {weight}; an arm without weight is no arm (1 to 9,999 basis points).",
            )
    total = sum(design.weights_bp.values())
    if total != FULL_BP:
        yield _at("weights_bp", "weights_do_not_sum", f"weights_bp sum to {total}; they must sum to {FULL_BP}.")
    if not 1 <= design.coverage_bp <= FULL_BP:
        yield _at("coverage_bp", "out_of_range", f"coverage_bp must lie between 1 and {FULL_BP}.")
    if design.unit is Unit.REQUEST and design.coverage_bp != FULL_BP:
        yield _at("coverage_bp", "not_by_request", "With the unit request every request takes part: leave 10000.")


def _chances(design: Design) -> Faults:
    for name in ("alpha", "power"):
        value = getattr(design, name)
        if not (_is_number(value) and 0.0 < value < 1.0):
            yield _at(name, "out_of_range", f"{name} must lie strictly between 0 and 1, got {value!r}.")
    if 0.0 < design.alpha < 1.0 and 0.0 < design.power < 1.0 and design.power <= design.alpha / 2.0:
        yield _at("power", "out_of_range", "power must be over alpha: a coin would do as well.")


def _metrics(design: Design) -> Faults:
    if not 1 <= len(design.metrics) <= MAX_METRICS:
        yield _at("metrics", "count", f"metrics must hold 1 to {MAX_METRICS} metrics.")
    keys = [metric.key for metric in design.metrics]
    for index, metric in enumerate(design.metrics):
        where = f"metrics/{index}"
        if not KEY.match(metric.key):
            yield _at(f"{where}/key", "bad_key", f"{metric.key!r} is not a letter, then letters, digits, underscores.")
        if keys.index(metric.key) != index:
            yield _at(f"{where}/key", "duplicate", f"There are two metrics {metric.key!r}.")
        yield from _metric(design, metric, where)


def _metric(design: Design, metric: Metric, where: str) -> Faults:
    allowed = {
        Source.EVENT: set(MetricKind),
        Source.ERRORS: {MetricKind.PROPORTION},
        Source.LATENCY: {MetricKind.PROPORTION, MetricKind.QUANTILE},
    }[metric.source]
    if metric.kind not in allowed:
        kinds = " or ".join(sorted(kind.value for kind in allowed))
        yield _at(f"{where}/kind", "not_from_there", f"From {metric.source.value} comes a {kinds}.")
    if (metric.source is Source.EVENT) != bool(metric.event):
        sentence = "name the outcome event that it counts." if not metric.event else "it counts no event; leave it out."
        yield _at(f"{where}/event", "event", f"{metric.key}: {sentence}")
    if metric.denominator and metric.kind is not MetricKind.RATIO:
        yield _at(f"{where}/denominator", "not_a_ratio", f"{metric.key}: only a ratio has a denominator.")
    if (metric.kind is MetricKind.QUANTILE) != (metric.quantile is not None):
        yield _at(
            f"{where}/quantile", "quantile", f"{metric.key}: a quantile belongs to the kind quantile, only there."
        )
    elif metric.quantile is not None and not 0.0 < metric.quantile < 1.0:
        yield _at(f"{where}/quantile", "out_of_range", f"{metric.key}: quantile must lie strictly between 0 and 1.")
    yield from _metric_numbers(metric, where)
    if metric.has_covariate and metric.kind not in {MetricKind.MEAN, MetricKind.PROPORTION}:
        yield _at(f"{where}/has_covariate", "not_adjustable", f"{metric.key}: means and proportions can be adjusted.")


def _metric_numbers(metric: Metric, where: str) -> Faults:
    needs = metric.source is Source.LATENCY and metric.kind is MetricKind.PROPORTION
    limit = metric.threshold_seconds
    if needs and limit is None:
        yield _at(f"{where}/threshold_seconds", "required", f"{metric.key}: say over how many seconds is slow.")
    if limit is not None and not (_is_number(limit) and limit > 0.0):
        yield _at(f"{where}/threshold_seconds", "out_of_range", f"{metric.key}: threshold_seconds must be over 0.")
    if metric.window_seconds is not None and (metric.window_seconds < 60 or metric.is_measured):
        yield _at(f"{where}/window_seconds", "window", f"{metric.key}: window_seconds is at least 60, for events only.")
    low, high = metric.cap_lower, metric.cap_upper
    if (low is not None or high is not None) and metric.kind not in {MetricKind.MEAN, MetricKind.RATIO}:
        yield _at(f"{where}/cap_upper", "not_capped", f"{metric.key}: only means and ratios are capped.")
    if low is not None and high is not None and low >= high:
        yield _at(f"{where}/cap_upper", "out_of_range", f"{metric.key}: cap_upper must be over cap_lower.")


def _primary(design: Design) -> Faults:
    metric = design.metric(design.primary)
    if metric is None:
        yield _at("primary", "unknown_metric", f"primary names {design.primary!r}, which is none of the metrics.")
        return
    if metric.kind is MetricKind.QUANTILE:
        yield _at(
            "primary",
            "quantile",
            "A quantile cannot be looked at all the time: take the share over a fixed limit (kind proportion).",
        )
    if metric.is_measured and design.unit is not Unit.REQUEST:
        yield _at(
            "primary",
            "finer_than_unit",
            f"{metric.key} counts requests, the unit is a {design.unit.value}: report outcomes per "
            f"{design.unit.value}, or take the unit request.",
        )
    for index, key in enumerate(design.secondary):
        if design.metric(key) is None:
            yield _at(f"secondary/{index}", "unknown_metric", f"secondary names {key!r}, which is none of the metrics.")
        elif key == design.primary or key in design.secondary[:index]:
            yield _at(f"secondary/{index}", "duplicate", f"{key!r} is named twice.")


def _effect(design: Design) -> Faults:
    metric = design.metric(design.primary)
    if metric is None or metric.kind is MetricKind.QUANTILE:
        return
    relative, absolute = design.effect_relative, design.effect_absolute
    if (relative is None) == (absolute is None):
        yield _at("effect_relative", "one_of", "Give the effect either as effect_relative or as effect_absolute.")
        return
    field = "effect_relative" if relative is not None else "effect_absolute"
    effect = relative if relative is not None else absolute
    if not (_is_number(effect) and effect != 0.0):
        yield _at(field, "zero", f"{field} must not be 0: no number of units can show a difference that is not there.")
    yield from _baseline(design, metric, field)


def _baseline(design: Design, metric: Metric, field: str) -> Faults:
    base = design.baseline
    if metric.kind is MetricKind.PROPORTION:
        if base is None or not (_is_number(base) and 0.0 < base < 1.0):
            yield _at("baseline", "out_of_range", f"baseline must lie strictly between 0 and 1, got {base!r}.")
            return
        target = base * (1 + design.effect_relative) if design.effect_relative is not None else None
        target = base + design.effect_absolute if design.effect_absolute is not None else target
        if target is not None and not 0.0 < target < 1.0:
            yield _at(field, "out_of_range", f"{field} leads from {base:g} to {target:g}, which is no share.")
        return
    if design.spread is None or not (_is_number(design.spread) and design.spread > 0.0):
        yield _at("spread", "out_of_range", "spread must be the standard deviation of a unit's value, over 0.")
    if design.effect_relative is not None and (base is None or not _is_number(base) or base == 0.0):
        yield _at("baseline", "out_of_range", "A relative effect needs a baseline other than 0.")


def _guardrails(design: Design) -> Faults:
    for index, rail in enumerate(design.guardrails):
        yield from _guardrail(design, rail, f"guardrails/{index}")


def _guardrail(design: Design, rail: Guardrail, where: str) -> Faults:
    metric = design.metric(rail.metric)
    if metric is None:
        yield _at(f"{where}/metric", "unknown_metric", f"A guardrail names {rail.metric!r}, which is no metric here.")
        return
    if (rail.margin is None) == (rail.limit is None):
        yield _at(where, "one_of", f"{rail.metric}: give either a margin against the control or a limit.")
    if rail.margin is not None:
        if not (_is_number(rail.margin) and rail.margin >= 0.0):
            yield _at(f"{where}/margin", "out_of_range", f"{rail.metric}: margin must be at least 0.")
        if metric.kind is MetricKind.QUANTILE:
            yield _at(f"{where}/metric", "quantile", f"{rail.metric}: guard the share over a limit, not the quantile.")
        if metric.is_measured and design.unit is not Unit.REQUEST:
            sentence = f"{rail.metric} counts requests: give it a limit, or take the unit request."
            yield _at(f"{where}/margin", "finer_than_unit", sentence)
    if rail.limit is not None:
        if not (_is_number(rail.limit) and 0.0 < rail.limit < 1.0):
            yield _at(f"{where}/limit", "out_of_range", f"{rail.metric}: limit is a share between 0 and 1.")
        if not (metric.is_measured and metric.kind is MetricKind.PROPORTION):
            yield _at(f"{where}/limit", "not_a_share", f"{rail.metric}: a limit guards errors or slow requests.")


def _extent(design: Design) -> Faults:
    total = design.planned_total
    if total is not None and not (isinstance(total, int) and 2 <= total <= MAX_TOTAL):
        yield _at("planned_total", "out_of_range", "planned_total must be at least 2 units over both arms.")
    if not (0 if total is not None else 1) <= design.minimum_days <= 365:
        detail = "minimum_days must lie between 1 and 365 (0 only with a planned_total, for trying out)."
        yield _at("minimum_days", "out_of_range", detail)
    if not 1 <= design.looks <= 1000:
        yield _at("looks", "out_of_range", "looks must lie between 1 and 1,000.")
    if not 1 <= design.look_every_hours <= 168:
        yield _at("look_every_hours", "out_of_range", "look_every_hours must lie between 1 and 168.")
    if len(design.dimensions) > MAX_DIMENSIONS:
        yield _at("dimensions", "count", f"There are at most {MAX_DIMENSIONS} dimensions.")
    for index, name in enumerate(design.dimensions):
        if not KEY.match(name) or name in design.dimensions[:index]:
            yield _at(f"dimensions/{index}", "bad_key", f"{name!r} is no name of a dimension, or named twice.")
    if design.dimensions and design.unit is Unit.REQUEST:
        yield _at("dimensions", "not_by_request", "Requests are counted by the gateway, without dimensions.")


CHECKS: tuple[Callable[[Design], Faults], ...] = (
    _hypothesis, _weights, _chances, _metrics, _primary, _effect, _guardrails, _extent,
)  # fmt: skip


def _at(field: str, code: str, detail: str) -> FieldError:
    return FieldError(f"/design/{field}", code, detail)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _said(error: Exception) -> str:
    return f"{error.args[0]!s} is missing" if isinstance(error, KeyError) else str(error)
