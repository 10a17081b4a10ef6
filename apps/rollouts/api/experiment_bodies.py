"""What a caller may send about the experiment of an A/B rollout; what it means is checked with the whole plan."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rest_framework import serializers

from apps.experiments.domain.design import Design
from apps.experiments.domain.words import MetricKind, Mode, Source, Unit
from apps.kernel.rest import StrictBoolean, StrictChar, StrictFloat, StrictInteger, StrictSerializer
from apps.rollouts.domain.plan import Inconclusive, Step, StepKind, Unapproved
from apps.rollouts.domain.validate import MAX_HORIZON, MAX_LOOK, MAX_QUORUM, MAX_SECONDS, MIN_DEADLINE

THEN = [then.value for then in Unapproved]
MAX_METRICS = 20
KINDS = [
    (MetricKind.PROPORTION.value, "share of units, or of requests"),
    (MetricKind.MEAN.value, "sum of a unit's event values"),
    (MetricKind.RATIO.value, "sum of one event's values over another's"),
    (MetricKind.QUANTILE.value, "of latencies or of event values"),
]
BIG = 2**53


class TrialMetricBody(StrictSerializer):
    key = StrictChar(max_length=40)
    kind = serializers.ChoiceField(choices=KINDS)
    source = serializers.ChoiceField(  # type: ignore[assignment]
        choices=[source.value for source in Source], default=Source.EVENT.value
    )
    name = StrictChar(max_length=80, default="", allow_blank=True)
    event = StrictChar(max_length=40, default="", allow_blank=True)
    denominator = StrictChar(max_length=40, default="", allow_blank=True)
    quantile = StrictFloat(required=False, allow_null=True)
    threshold_seconds = StrictFloat(required=False, allow_null=True)
    higher_is_better = StrictBoolean(default=True)
    window_seconds = StrictInteger(min_value=0, max_value=10**8, required=False, allow_null=True)
    cap_lower = StrictFloat(required=False, allow_null=True)
    cap_upper = StrictFloat(required=False, allow_null=True)
    has_covariate = StrictBoolean(default=False)


class TrialGuardrailBody(StrictSerializer):
    metric = StrictChar(max_length=40)
    margin = StrictFloat(required=False, allow_null=True, help_text="How much worse than the control is tolerable.")
    limit = StrictFloat(required=False, allow_null=True)


class TrialWeightsBody(StrictSerializer):
    control = StrictInteger(min_value=0, max_value=10_000)
    treatment = StrictInteger(min_value=0, max_value=10_000)


class TrialDesignBody(StrictSerializer):
    """As an experiment of its own has it."""

    hypothesis = StrictChar(max_length=2000)
    unit = serializers.ChoiceField(choices=[unit.value for unit in Unit])
    weights_bp = TrialWeightsBody()
    metrics = TrialMetricBody(many=True, max_length=MAX_METRICS)  # type: ignore[call-arg]
    primary = StrictChar(max_length=40)
    secondary = serializers.ListField(child=StrictChar(max_length=40), default=list, max_length=MAX_METRICS)
    guardrails = TrialGuardrailBody(many=True, default=list, max_length=MAX_METRICS)  # type: ignore[call-arg]
    mode = serializers.ChoiceField(choices=[mode.value for mode in Mode], default=Mode.GROUP_SEQUENTIAL.value)
    alpha = StrictFloat(default=0.05)
    power = StrictFloat(default=0.8)
    baseline = StrictFloat(required=False, allow_null=True)
    spread = StrictFloat(required=False, allow_null=True)
    effect_relative = StrictFloat(required=False, allow_null=True)
    effect_absolute = StrictFloat(required=False, allow_null=True)
    planned_total = StrictInteger(min_value=0, max_value=BIG, required=False, allow_null=True)
    minimum_days = StrictInteger(
        min_value=0, max_value=1000, default=14, help_text="0 only with a planned_total, for trying out."
    )
    looks = StrictInteger(min_value=0, max_value=10_000, default=14)
    coverage_bp = StrictInteger(min_value=0, max_value=10_000, default=10_000)
    dimensions = serializers.ListField(child=StrictChar(max_length=40), default=list, max_length=20)
    look_every_hours = StrictInteger(min_value=0, max_value=1000, default=24)
    stop_on_harm = StrictBoolean(default=True)


class TrialFields(StrictSerializer):
    """The fields of an experiment step, but for those that it shares with an approval step."""

    design = TrialDesignBody(required=False, allow_null=True, help_text="experiment: what decides.")
    on_inconclusive = serializers.ChoiceField(
        choices=[way.value for way in Inconclusive], required=False, allow_null=True, help_text="experiment only."
    )
    units_per_day = StrictFloat(
        required=False, allow_null=True, help_text="experiment: expected units a day over both arms."
    )
    look_seconds = StrictInteger(
        required=False, allow_null=True, min_value=0, max_value=MAX_LOOK, help_text="experiment: null: by the design."
    )
    horizon_seconds = StrictInteger(
        required=False, allow_null=True, min_value=0, max_value=MAX_HORIZON, help_text="experiment: its latest end."
    )


class TrialBody(TrialFields):
    """The experiment of an A/B rollout, without writing the steps: it stands before the step to 100 %."""

    design = TrialDesignBody()
    quorum = StrictInteger(required=False, allow_null=True, min_value=1, max_value=MAX_QUORUM)
    deadline_seconds = StrictInteger(
        required=False, allow_null=True, min_value=MIN_DEADLINE, max_value=MAX_SECONDS, help_text="null: whenever."
    )
    on_rejection = serializers.ChoiceField(choices=THEN, required=False, allow_null=True)
    on_expiry = serializers.ChoiceField(choices=THEN, required=False, allow_null=True)


def trial_of(given: Mapping[str, Any]) -> Step:
    """The step that ``TrialBody`` describes."""
    return Step(StepKind.EXPERIMENT, **trial_parts(given), **asking_parts(given))


def trial_parts(given: Mapping[str, Any]) -> dict[str, Any]:
    """What ``TrialFields`` says, as ``Step`` takes it."""
    design, way = given.get("design"), given.get("on_inconclusive")
    return {
        "design": Design.from_json(design) if design else None,
        "on_inconclusive": Inconclusive(way) if way else None,
        "units_per_day": given.get("units_per_day"),
        "look_seconds": given.get("look_seconds"),
        "horizon_seconds": given.get("horizon_seconds"),
    }


def asking_parts(given: Mapping[str, Any]) -> dict[str, Any]:
    """What is said about asking people, as ``Step`` takes it."""
    ways = {name: given.get(name) for name in ("on_rejection", "on_expiry")}
    return {
        "quorum": given.get("quorum"),
        "deadline_seconds": given.get("deadline_seconds"),
        **{name: Unapproved(way) if way else None for name, way in ways.items()},
    }
