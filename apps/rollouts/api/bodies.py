"""What a caller may send about rollouts."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.kernel.rest import PageQuery, StrictBoolean, StrictChar, StrictFloat, StrictInteger, StrictSerializer
from apps.rollouts.api.experiment_bodies import TrialBody, TrialFields
from apps.rollouts.api.shapes import PHASES, STRATEGIES
from apps.rollouts.api.waiting import LONGEST_SECONDS
from apps.rollouts.domain.plan import FULL_BP, Metric, StepKind, Strategy, Unapproved
from apps.rollouts.domain.strategies import DECIDE_SECONDS, PROFILES, STANDARD
from apps.rollouts.domain.validate import MAX_QUORUM, MAX_SECONDS, MAX_STEPS, MAX_WARM_SECONDS, MIN_DEADLINE
from apps.rollouts.services.lifecycle import SUPERSEDE

MAX_GATES = 20
THEN = [then.value for then in Unapproved]
MAX_REVISION = 2**31 - 1


class GateBody(StrictSerializer):
    name = StrictChar(max_length=80)
    metric = serializers.ChoiceField(choices=[metric.value for metric in Metric])
    limit = StrictFloat(help_text="A share from 0 to 1; telemetry_age: seconds.")
    threshold_seconds = StrictFloat(required=False, allow_null=True, help_text="slow_share only: slow is over this.")


class StepBody(TrialFields):
    kind = serializers.ChoiceField(choices=[kind.value for kind in StepKind])
    weight_bp = StrictInteger(required=False, allow_null=True, min_value=0, max_value=FULL_BP)
    mirror_bp = StrictInteger(required=False, allow_null=True, min_value=0, max_value=FULL_BP)
    seconds = StrictInteger(
        required=False, allow_null=True, min_value=0, max_value=MAX_SECONDS, help_text="null: until a person resumes."
    )
    gates = GateBody(many=True, required=False, max_length=MAX_GATES)  # type: ignore[call-arg]
    quorum = StrictInteger(
        required=False, allow_null=True, min_value=1, max_value=MAX_QUORUM, help_text="approval: how many must approve."
    )
    deadline_seconds = StrictInteger(
        required=False, allow_null=True, min_value=MIN_DEADLINE, max_value=MAX_SECONDS, help_text="null: whenever."
    )
    on_rejection = serializers.ChoiceField(choices=THEN, required=False, allow_null=True)
    on_expiry = serializers.ChoiceField(choices=THEN, required=False, allow_null=True)


class ApprovalBody(StrictSerializer):
    """An approval before the step to 100 %, without writing the steps; nobody approves what they started."""

    quorum = StrictInteger(min_value=1, max_value=MAX_QUORUM, default=1, help_text="How many must approve.")
    deadline_seconds = StrictInteger(
        min_value=MIN_DEADLINE,
        max_value=MAX_SECONDS,
        allow_null=True,
        default=DECIDE_SECONDS,
        help_text="null: whenever.",
    )
    on_rejection = serializers.ChoiceField(choices=THEN, default=Unapproved.ROLL_BACK.value)
    on_expiry = serializers.ChoiceField(choices=THEN, default=Unapproved.HOLD.value)


class RolloutBody(StrictSerializer):
    endpoint = StrictChar(max_length=80, help_text="The endpoint's name or id.")
    version = StrictChar(max_length=100, help_text="The candidate: a version, a number or an alias.")
    strategy = serializers.ChoiceField(choices=STRATEGIES, default=Strategy.CANARY.value)
    profile = serializers.ChoiceField(choices=list(PROFILES), default=STANDARD)
    steps = StepBody(many=True, required=False, max_length=MAX_STEPS, help_text="Instead of the strategy's own.")  # type: ignore[call-arg]
    guardrails = GateBody(many=True, required=False, max_length=MAX_GATES, help_text="Instead of the usual two.")  # type: ignore[call-arg]
    approval = ApprovalBody(required=False, allow_null=True, help_text="People who must approve before 100 %.")
    experiment = TrialBody(required=False, allow_null=True, help_text="strategy ab: what decides, before 100 %.")
    keep_warm_seconds = StrictInteger(
        required=False,
        allow_null=True,
        min_value=0,
        max_value=MAX_WARM_SECONDS,
        help_text="How long the old version stays ready after the promotion; the profile's own (300 or 0) when absent.",
    )
    supersede = serializers.ChoiceField(
        choices=list(SUPERSEDE),
        default="reject",
        help_text="What to do when another rollout is under way at the endpoint.",
    )
    note = StrictChar(max_length=500, allow_blank=True, default="")
    expected_plan_hash = StrictChar(
        max_length=71, required=False, help_text="What the dry run gave; 409 when the plan would be another one now."
    )


class StartQuery(StrictSerializer):
    dry_run = StrictBoolean(default=False, help_text="Plan and check only; nothing is stored.")


class CommandBody(StrictSerializer):
    reason = StrictChar(max_length=500, allow_blank=True, default="")
    expected_revision = StrictInteger(
        min_value=0, max_value=MAX_REVISION, help_text="What you saw; 409 when it moved on."
    )
    expected_step = StrictInteger(min_value=-1, max_value=MAX_STEPS)


class PromoteBody(CommandBody):
    reason = StrictChar(max_length=500)


class SafeCommandBody(StrictSerializer):
    """Abort and roll back never lose a race: what was seen need not be said."""

    reason = StrictChar(max_length=500, allow_blank=True, default="")
    expected_revision = StrictInteger(required=False, min_value=0, max_value=MAX_REVISION, help_text="Not looked at.")
    expected_step = StrictInteger(required=False, min_value=-1, max_value=MAX_STEPS, help_text="Not looked at.")


class AcknowledgeBody(StrictSerializer):
    reason = StrictChar(max_length=500, allow_blank=True, default="", help_text="What is done about it.")


class WaitQuery(StrictSerializer):
    wait_seconds = StrictInteger(
        min_value=0, max_value=LONGEST_SECONDS, default=0, help_text="Wait for news this long."
    )
    after_revision = StrictInteger(min_value=0, max_value=MAX_REVISION, required=False, help_text="News is above this.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs["wait_seconds"] and "after_revision" not in attrs:
            raise serializers.ValidationError({"after_revision": ["Say the revision that you have seen."]}, "required")
        return attrs


class RolloutsQuery(PageQuery):
    phase = StrictChar(required=False, max_length=200, help_text="One or several, separated by commas.")
    endpoint = StrictChar(required=False, max_length=80, help_text="The endpoint's name or id.")

    def validate_phase(self, value: str) -> list[str]:
        wanted = value.split(",")
        unknown = sorted(set(wanted) - set(PHASES))
        if unknown:
            raise serializers.ValidationError(f"{unknown[0]!r} is none of {', '.join(PHASES)}.", "unknown_phase")
        return wanted
