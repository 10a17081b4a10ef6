"""What the API takes about experiments. Shapes only: what a design means is checked in domain/check.py."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.experiments.domain.simulate import RUNS
from apps.experiments.domain.words import MetricKind, Mode, Source, Status, Unit
from apps.kernel.rest import (
    PageQuery,
    StrictBoolean,
    StrictChar,
    StrictFloat,
    StrictInteger,
    StrictObject,
    StrictSerializer,
)
from apps.kernel.stats.decision import DecisionKind

STATUSES = [status.value for status in Status]
ENDS = [DecisionKind.SHIP.value, DecisionKind.ROLL_BACK.value, DecisionKind.STOP_INCONCLUSIVE.value]
UNITS = [unit.value for unit in Unit]
MODES = [mode.value for mode in Mode]
KINDS = [kind.value for kind in MetricKind]
SOURCES = [source.value for source in Source]
BIG = 2**53
MAX_ROWS = 5_000


class MetricBody(StrictSerializer):
    key = StrictChar(max_length=40, help_text="What `primary`, `secondary` and guardrails call it.")
    kind = serializers.ChoiceField(
        choices=KINDS,
        help_text="proportion: share of units with the event (or of requests). mean: sum of a unit's values. ratio: "
        "one event's values over another's. quantile: of latencies or values, never the primary metric.",
    )
    source = serializers.ChoiceField(  # type: ignore[assignment]
        choices=SOURCES, default=Source.EVENT.value, help_text="event: reported outcomes; else telemetry."
    )
    name = StrictChar(max_length=80, default="", allow_blank=True)
    event = StrictChar(
        max_length=40, default="", allow_blank=True, help_text="The `events` of outcomes that it counts."
    )
    denominator = StrictChar(max_length=40, default="", allow_blank=True, help_text="ratio: the event below the line.")
    quantile = StrictFloat(required=False, allow_null=True, help_text="quantile: 0.5, 0.95, 0.99 …")
    threshold_seconds = StrictFloat(
        required=False, allow_null=True, help_text="proportion from latency: requests that take longer are slow."
    )
    higher_is_better = StrictBoolean(default=True)
    window_seconds = StrictInteger(
        min_value=0, max_value=10**8, required=False, allow_null=True, help_text="Only units older than this count."
    )
    cap_lower = StrictFloat(required=False, allow_null=True, help_text="A unit's value counts as at least this.")
    cap_upper = StrictFloat(required=False, allow_null=True, help_text="And as at most this, in both arms.")
    has_covariate = StrictBoolean(
        default=False, help_text="Exposures carry `covariates`, known before: CUPED takes their noise out."
    )


class GuardrailBody(StrictSerializer):
    metric = StrictChar(max_length=40, help_text="The key of one of `metrics`.")
    margin = StrictFloat(
        required=False, allow_null=True, help_text="How much worse than the control is tolerable, in its own unit."
    )
    limit = StrictFloat(
        required=False,
        allow_null=True,
        help_text="Instead: the treatment's own share stays under it.",
    )


class WeightsBody(StrictSerializer):
    control = StrictInteger(min_value=0, max_value=10_000)
    treatment = StrictInteger(min_value=0, max_value=10_000)


class DesignBody(StrictSerializer):
    """Everything that is fixed before the first unit. `POST experiments/size` says what it costs and stores nothing."""

    hypothesis = StrictChar(max_length=2000, help_text="What is expected, and why.")
    unit = serializers.ChoiceField(
        choices=UNITS, help_text="What is assigned and counted; requests are drawn by the gateway, without assignment."
    )
    weights_bp = WeightsBody(help_text="Sums to 10000; 5000 each needs the fewest units.")
    metrics = MetricBody(many=True)
    primary = StrictChar(max_length=40, help_text="The key of the one metric that decides.")
    secondary = serializers.ListField(
        child=StrictChar(max_length=40), default=list, max_length=20, help_text="Keys; for reading, p-values by Holm."
    )
    guardrails = GuardrailBody(many=True, default=list)
    mode = serializers.ChoiceField(
        choices=MODES,
        default=Mode.GROUP_SEQUENTIAL.value,
        help_text="group_sequential: for a planned size. always_valid: for any number of units, needs about 1.8 times.",
    )
    alpha = StrictFloat(default=0.05, help_text="Chance of a false alarm over all looks together, two-sided.")
    power = StrictFloat(default=0.8, help_text="Chance to find the effect, if it is there.")
    baseline = StrictFloat(required=False, allow_null=True, help_text="The primary metric today; a share is 0.2.")
    spread = StrictFloat(required=False, allow_null=True, help_text="mean, ratio: standard deviation per unit.")
    effect_relative = StrictFloat(
        required=False, allow_null=True, help_text="Smallest effect worth finding, as a part of the baseline: 0.1."
    )
    effect_absolute = StrictFloat(required=False, allow_null=True, help_text="Or in the metric's own unit.")
    planned_total = StrictInteger(
        min_value=0, max_value=BIG, required=False, allow_null=True, help_text="Over both arms; null: what power needs."
    )
    minimum_days = StrictInteger(
        min_value=0,
        max_value=1000,
        default=14,
        help_text="Nothing ships before. 0 only with a planned_total, for trying out.",
    )
    looks = StrictInteger(min_value=0, max_value=10_000, default=14, help_text="Planned for; any number is allowed.")
    coverage_bp = StrictInteger(
        min_value=0, max_value=10_000, default=10_000, help_text="Part of all units that takes part; may grow later."
    )
    dimensions = serializers.ListField(
        child=StrictChar(max_length=40), default=list, max_length=20, help_text="Names that exposures may carry."
    )
    look_every_hours = StrictInteger(min_value=0, max_value=1000, default=24, help_text="How often it looks by itself.")
    stop_on_harm = StrictBoolean(default=True, help_text="Ends by itself, all traffic to stable, once harm is sure.")


class ExperimentBody(StrictSerializer):
    name = StrictChar(max_length=120)
    endpoint = StrictChar(max_length=80, help_text="Name or id.")
    version = StrictChar(max_length=64, help_text="The treatment: version, number, alias or id.")
    design = DesignBody()


class ReviseBody(StrictSerializer):
    name = StrictChar(max_length=120, required=False)
    version = StrictChar(max_length=64, required=False)
    design = DesignBody(required=False)
    expected_revision = StrictInteger(min_value=1, max_value=2**31 - 1, required=False)


class TrafficFields(StrictSerializer):
    units_per_day = StrictFloat(required=False, allow_null=True, help_text="Eligible units a day, over both arms.")
    accumulation = serializers.ListField(
        child=StrictFloat(), required=False, max_length=400, help_text="Measured unique units after day 1, 2, …"
    )


class SizeBody(TrafficFields):
    endpoint = StrictChar(max_length=80)
    design = DesignBody()


class SimulateBody(SizeBody):
    runs = StrictInteger(
        min_value=1,
        max_value=10**6,
        default=RUNS,
        help_text="Experiments to try out, with the effect and without.",
    )


class PlanBody(TrafficFields):
    pass


class StartBody(StrictSerializer):
    reason = StrictChar(max_length=2000, default="", allow_blank=True)
    expected_revision = StrictInteger(min_value=1, max_value=2**31 - 1, required=False)


class StopBody(StrictSerializer):
    reason = StrictChar(max_length=2000)


class ExtendBody(StrictSerializer):
    reason = StrictChar(max_length=2000)
    minimum_days = StrictInteger(min_value=1, max_value=BIG, required=False)
    coverage_bp = StrictInteger(min_value=1, max_value=BIG, required=False)
    planned_total = StrictInteger(min_value=1, max_value=BIG, required=False)


class DecideBody(StrictSerializer):
    kind = serializers.ChoiceField(choices=ENDS)
    readout = StrictChar(max_length=40, help_text="The readout that was looked at, the newest.")
    reason = StrictChar(max_length=2000, default="", allow_blank=True, help_text="Needed against what the numbers say.")


class AssignBody(StrictSerializer):
    units = serializers.ListField(child=StrictChar(max_length=200), max_length=MAX_ROWS)
    record_exposure = StrictBoolean(default=False, help_text="The units see their arm now: report it along.")
    dimensions = StrictObject(required=False, help_text="Columns of texts, one value per unit.")
    covariates = serializers.ListField(child=StrictFloat(allow_null=True), required=False, max_length=MAX_ROWS)


class ExposuresBody(StrictSerializer):
    """Columns of equal length, or a list of objects. What is wrong in one item rejects that item alone."""

    units = serializers.ListField(required=False)
    at = serializers.ListField(required=False, help_text="RFC 3339; now, where it is missing.")
    arms = serializers.ListField(required=False, help_text="What was shown; needed with the unit request.")
    variants = serializers.ListField(required=False, help_text="Who answered: x-pilothouse-variant of the answer.")
    covariates = serializers.ListField(required=False)
    dimensions = StrictObject(required=False)
    exposures = serializers.ListField(
        required=False, help_text="Instead: objects of unit, at, arm, variant, covariate, dimensions."
    )


class OutcomesBody(StrictSerializer):
    """Columns of equal length, or a list of objects."""

    ids = serializers.ListField(required=False, help_text="Of the events: the same id again changes nothing.")
    units = serializers.ListField(required=False)
    events = serializers.ListField(required=False)
    values = serializers.ListField(required=False, help_text="1, where it is missing.")
    at = serializers.ListField(required=False, help_text="RFC 3339; now, where it is missing.")
    outcomes = serializers.ListField(required=False, help_text="Instead: objects of id, unit, event, value, at.")


class ExperimentsQuery(PageQuery):
    endpoint = StrictChar(required=False, max_length=80)
    status = serializers.ChoiceField(choices=STATUSES, required=False)
    is_active = StrictBoolean(required=False)


def design_given(raw: Any) -> dict[str, Any]:
    """A validated design as plain data for the domain."""
    return {
        **raw,
        "weights_bp": dict(raw["weights_bp"]),
        "metrics": [dict(item) for item in raw["metrics"]],
        "guardrails": [dict(item) for item in raw["guardrails"]],
    }
