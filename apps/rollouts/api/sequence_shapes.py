"""What a caller may send about rollout sequences, and what the API says about them."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.kernel.rest import PageQuery, StrictBoolean, StrictChar, StrictInteger, StrictSerializer, iso
from apps.rollouts.api.bodies import MAX_GATES, MAX_REVISION, ApprovalBody, GateBody, StepBody
from apps.rollouts.api.shapes import PHASES, STRATEGIES, CheckSchema
from apps.rollouts.domain.plan import Strategy
from apps.rollouts.domain.sequence import SEQUENCE_TERMINAL, SequencePhase
from apps.rollouts.domain.strategies import PROFILES, STANDARD
from apps.rollouts.domain.validate import MAX_SECONDS, MAX_STEPS
from apps.rollouts.domain.waves import MAX_MEMBERS, MAX_WAVES, OnFailure
from apps.rollouts.models import RolloutSequence, SequenceMember, SequenceTransition
from apps.rollouts.selectors import sequence_commands
from apps.rollouts.services.sequences import PlannedMember, PlannedSequence

SEQUENCE_PHASES = [phase.value for phase in SequencePhase]
FOR_A_PERSON = frozenset({SequencePhase.WAITING, SequencePhase.PAUSED, SequencePhase.STOPPED})
ON_FAILURE = [one.value for one in OnFailure]


class WaveBody(StrictSerializer):
    endpoints = serializers.ListField(
        child=StrictChar(max_length=80), min_length=1, max_length=MAX_MEMBERS, help_text="Names or ids."
    )
    bake_seconds = StrictInteger(
        default=0,
        allow_null=True,
        min_value=0,
        max_value=MAX_SECONDS,
        help_text="After this wave, before the next; null: until a person continues.",
    )


class SequenceBody(StrictSerializer):
    version = StrictChar(max_length=100, help_text="The candidate: a version, a number or an alias.")
    waves = WaveBody(many=True, min_length=1, max_length=MAX_WAVES)  # type: ignore[call-arg]
    strategy = serializers.ChoiceField(choices=STRATEGIES, default=Strategy.CANARY.value)
    profile = serializers.ChoiceField(choices=list(PROFILES), default=STANDARD)
    steps = StepBody(many=True, required=False, max_length=MAX_STEPS, help_text="Of every member's rollout.")  # type: ignore[call-arg]
    guardrails = GateBody(many=True, required=False, max_length=MAX_GATES, help_text="Instead of the usual two.")  # type: ignore[call-arg]
    approval = ApprovalBody(required=False, allow_null=True, help_text="In every member's rollout, before 100 %.")
    approve_once = StrictBoolean(
        default=False,
        help_text="One review of the whole plan answers the approval steps of all members; for endpoints of one team "
        "and one environment.",
    )
    on_failure = serializers.ChoiceField(
        choices=ON_FAILURE,
        default=OnFailure.STOP.value,
        help_text="When a member fails, or one that is through breaks its guardrails or is no longer ready. "
        "stop: nothing more starts; roll_back: what is through goes back too, newest first; roll_back_wave: of it only "
        "that wave and later ones.",
    )
    max_concurrent = StrictInteger(
        required=False, allow_null=True, min_value=1, max_value=MAX_MEMBERS, help_text="null: a whole wave at once."
    )
    note = StrictChar(max_length=500, allow_blank=True, default="")
    expected_plan_hash = StrictChar(
        max_length=71, required=False, help_text="What the dry run gave; 409 when the plan would be another one now."
    )


class SequencesQuery(PageQuery):
    phase = serializers.ChoiceField(choices=SEQUENCE_PHASES, required=False)


class SequenceCommandBody(StrictSerializer):
    reason = StrictChar(max_length=500, allow_blank=True, default="")
    expected_revision = StrictInteger(
        min_value=0, max_value=MAX_REVISION, help_text="What you saw; 409 when it moved on."
    )


class SequenceAbortBody(StrictSerializer):
    """Aborting never loses a race: what was seen need not be said."""

    reason = StrictChar(max_length=500, allow_blank=True, default="")
    roll_back = StrictBoolean(default=False, help_text="Members that are through go back too, newest first.")
    expected_revision = StrictInteger(required=False, min_value=0, max_value=MAX_REVISION, help_text="Not looked at.")


class MemberSchema(serializers.Serializer[Any]):
    endpoint = serializers.CharField()
    target = serializers.CharField()
    environment = serializers.CharField()
    serves = serializers.CharField(allow_null=True, help_text="The endpoint's stable version.")
    rollout = serializers.CharField(allow_null=True, help_text="Its newest attempt; null before its turn.")
    phase = serializers.ChoiceField(choices=PHASES, allow_null=True)
    weight_bp = serializers.IntegerField(help_text="Of the candidate, as wanted now.")
    reason = serializers.CharField(allow_blank=True)
    way_back = serializers.CharField(allow_null=True, help_text="The rollout that brings the version before back.")
    way_back_phase = serializers.ChoiceField(choices=PHASES, allow_null=True)
    left = serializers.CharField(allow_blank=True, help_text="Why it could not be brought back.")


class WaveSchema(serializers.Serializer[Any]):
    bake_seconds = serializers.IntegerField(allow_null=True)
    members = MemberSchema(many=True)


class SequenceErrorSchema(serializers.Serializer[Any]):
    detail = serializers.CharField()


class SequenceLinksSchema(serializers.Serializer[Any]):
    self = serializers.CharField()
    transitions = serializers.CharField()
    page = serializers.CharField(help_text="The same sequence for a person.")


class SequenceSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    model = serializers.CharField()
    version = serializers.CharField()
    phase = serializers.ChoiceField(choices=SEQUENCE_PHASES)
    is_finished = serializers.BooleanField()
    needs_person = serializers.BooleanField(help_text="Nothing goes on until a person resumes, continues or ends it.")
    wave = serializers.IntegerField(help_text="Index of the wave it is at.")
    waves = WaveSchema(many=True)
    on_failure = serializers.ChoiceField(choices=ON_FAILURE)
    approve_once = serializers.BooleanField()
    max_concurrent = serializers.IntegerField(allow_null=True)
    plan_hash = serializers.CharField()
    revision = serializers.IntegerField()
    reason = serializers.CharField(allow_blank=True, help_text="Why it waits, or why it ended.")
    engine_error = SequenceErrorSchema(allow_null=True, help_text="Pilothouse itself fails at this sequence.")
    note = serializers.CharField(allow_blank=True)
    allowed_actions = serializers.ListField(child=serializers.CharField(), help_text="Possible in this phase.")
    created_by = serializers.CharField()
    created_at = serializers.DateTimeField()
    phase_started_at = serializers.DateTimeField()
    finished_at = serializers.DateTimeField(allow_null=True)
    links = SequenceLinksSchema()


class PlannedMemberSchema(serializers.Serializer[Any]):
    endpoint = serializers.CharField()
    stable_version = serializers.CharField(allow_null=True)
    plan_hash = serializers.CharField()
    expected_seconds = serializers.FloatField(allow_null=True)
    checks = CheckSchema(many=True)


class PlannedWaveSchema(serializers.Serializer[Any]):
    bake_seconds = serializers.IntegerField(allow_null=True)
    members = PlannedMemberSchema(many=True)


class PlannedSequenceSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    model = serializers.CharField()
    version = serializers.CharField()
    plan_hash = serializers.CharField()
    is_startable = serializers.BooleanField()
    on_failure = serializers.ChoiceField(choices=ON_FAILURE)
    approve_once = serializers.BooleanField()
    max_concurrent = serializers.IntegerField(allow_null=True)
    waves = PlannedWaveSchema(many=True)


class SequenceTransitionSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    revision = serializers.IntegerField()
    from_phase = serializers.CharField()
    to_phase = serializers.CharField()
    action = serializers.CharField()
    reason = serializers.CharField()
    wave = serializers.IntegerField()
    actor = serializers.CharField()
    code_hash = serializers.CharField(allow_blank=True)
    at = serializers.DateTimeField()


def sequence_show(row: RolloutSequence) -> dict[str, Any]:
    """``row`` as ``sequence_get`` and ``sequence_list`` give it."""
    phase, here = SequencePhase(row.phase), f"/api/v1/rollout-sequences/{row.pk}"
    members = list(row.members.all())
    return {
        "id": row.pk,
        "object": "rollout_sequence",
        "model": row.candidate_version.model.name,
        "version": row.candidate_version.semver,
        "phase": phase.value,
        "is_finished": phase in SEQUENCE_TERMINAL,
        "needs_person": phase in FOR_A_PERSON,
        "wave": row.wave,
        "waves": [
            {
                "bake_seconds": wave["bake_seconds"],
                "members": [_member_show(one) for one in members if one.wave == index],
            }
            for index, wave in enumerate(row.plan["waves"])
        ],
        "on_failure": row.plan["on_failure"],
        "approve_once": row.plan.get("approval") == "once",
        "max_concurrent": row.plan["max_concurrent"],
        "plan_hash": row.plan_hash,
        "revision": row.revision,
        "reason": row.reason,
        "engine_error": {"detail": row.look_error} if row.look_error else None,
        "note": row.note,
        "allowed_actions": [command for command, refusal in sequence_commands(row).items() if not refusal],
        "created_by": row.created_by,
        **{name: iso(getattr(row, name)) for name in ("created_at", "phase_started_at", "finished_at")},
        "links": {"self": here, "transitions": f"{here}/transitions", "page": f"/rollouts/sequences/{row.pk}/"},
    }


def _member_show(member: SequenceMember) -> dict[str, Any]:
    endpoint, rollout, back = member.endpoint, member.rollout, member.back
    return {
        "endpoint": endpoint.name,
        "target": endpoint.target.name,
        "environment": endpoint.target.environment,
        "serves": endpoint.stable_version.semver if endpoint.stable_version else None,
        "rollout": rollout.pk if rollout else None,
        "phase": rollout.phase if rollout else None,
        "weight_bp": rollout.weight_bp if rollout else 0,
        "reason": rollout.reason if rollout else "",
        "way_back": back.pk if back else None,
        "way_back_phase": back.phase if back else None,
        "left": member.left,
    }


def planned_sequence_show(planned: PlannedSequence) -> dict[str, Any]:
    return {
        "object": "rollout_sequence_plan",
        "model": planned.version.model.name,
        "version": planned.version.semver,
        "plan_hash": planned.plan_hash,
        "is_startable": planned.is_startable,
        "on_failure": planned.plan.on_failure.value,
        "approve_once": planned.plan.is_approved_once,
        "max_concurrent": planned.plan.max_concurrent,
        "waves": [
            {
                "bake_seconds": wave.bake_seconds,
                "members": [_planned_member(one) for one in planned.members if one.wave == index],
            }
            for index, wave in enumerate(planned.plan.waves)
        ],
    }


def _planned_member(one: PlannedMember) -> dict[str, Any]:
    stable = one.planned.stable
    return {
        "endpoint": one.planned.endpoint.name,
        "stable_version": stable.semver if stable else None,
        "plan_hash": one.planned.plan_hash,
        "expected_seconds": one.planned.expected_seconds,
        "checks": [
            {"level": check.level.value, "code": check.code, "detail": check.detail, "pointer": check.pointer}
            for check in one.checks
        ],
    }


def sequence_transition_show(transition: SequenceTransition) -> dict[str, Any]:
    return {
        "object": "sequence_transition",
        "revision": transition.revision,
        "from_phase": transition.from_phase,
        "to_phase": transition.to_phase,
        "action": transition.action,
        "reason": transition.reason,
        "wave": transition.wave,
        "actor": transition.actor_label,
        "code_hash": transition.code_hash,
        "at": iso(transition.at),
    }
