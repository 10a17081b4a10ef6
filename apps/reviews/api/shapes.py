"""What the API answers about reviews."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.kernel.rest import PageQuery, StrictChar, StrictInteger, StrictSerializer, iso
from apps.reviews.domain.states import State, Verdict
from apps.reviews.models import Decision, Review

STATES = [state.value for state in State]


class ListQuery(PageQuery):
    state = serializers.ChoiceField(choices=STATES, required=False)
    subject_kind = StrictChar(required=False, max_length=32)
    subject_id = StrictChar(required=False, max_length=64)


class DecisionBody(StrictSerializer):
    verdict = serializers.ChoiceField(choices=[verdict.value for verdict in Verdict])
    reason = StrictChar(max_length=2000, default="", allow_blank=True, help_text="Needed unless it is an approval.")
    expected_revision = StrictInteger(min_value=1, max_value=2**31 - 1, help_text="The revision that was looked at.")
    plan_hash = StrictChar(max_length=71, help_text="The plan that was looked at.")
    evidence_hash = StrictChar(max_length=71, help_text="The evidence that was looked at.")


class WithdrawBody(StrictSerializer):
    reason = StrictChar(max_length=2000)
    expected_revision = StrictInteger(min_value=1, max_value=2**31 - 1)


class DecisionSchema(serializers.Serializer[Any]):
    person = serializers.CharField()
    verdict = serializers.CharField()
    reason = serializers.CharField(allow_blank=True)
    is_living = serializers.BooleanField(help_text="False once the same person decided anew.")
    at = serializers.DateTimeField()


class SubjectSchema(serializers.Serializer[Any]):
    kind = serializers.CharField()
    id = serializers.CharField()
    part = serializers.CharField(allow_blank=True)
    label = serializers.CharField()  # type: ignore[assignment]
    url = serializers.CharField(allow_blank=True)


class ReviewSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    id = serializers.CharField()
    state = serializers.CharField(help_text=f"One of {', '.join(STATES)}.")
    revision = serializers.IntegerField()
    title = serializers.CharField()
    request = serializers.CharField(allow_blank=True)
    subject = SubjectSchema()
    requested_by = serializers.CharField()
    team = serializers.CharField(allow_blank=True)
    environment = serializers.CharField(allow_blank=True)
    plan_hash = serializers.CharField()
    evidence_hash = serializers.CharField()
    quorum = serializers.IntegerField()
    four_eyes = serializers.BooleanField()
    action = serializers.CharField(help_text="The right that deciding needs.")
    deadline_at = serializers.DateTimeField(allow_null=True)
    on_expiry = serializers.CharField(help_text="reject, or hold: the subject stays where it is.")
    opened_at = serializers.DateTimeField()
    closed_at = serializers.DateTimeField(allow_null=True)
    close_reason = serializers.CharField(allow_blank=True)


class ReviewDetailSchema(ReviewSchema):
    evidence = serializers.JSONField(help_text="Frozen when the review was opened.")
    decisions = DecisionSchema(many=True)


def review_show(review: Review) -> dict[str, Any]:
    return {
        "object": "review",
        "id": review.pk,
        "state": review.state,
        "revision": review.revision,
        "title": review.title,
        "request": review.request,
        "subject": {
            "kind": review.subject_kind,
            "id": review.subject_id,
            "part": review.subject_part,
            "label": review.subject_label,
            "url": review.subject_url,
        },
        "requested_by": review.requested_label,
        "team": review.team,
        "environment": review.environment,
        "plan_hash": review.plan_hash,
        "evidence_hash": review.evidence_hash,
        "quorum": review.quorum,
        "four_eyes": review.four_eyes,
        "action": review.action,
        "deadline_at": iso(review.deadline_at),
        "on_expiry": review.on_expiry,
        "opened_at": iso(review.opened_at),
        "closed_at": iso(review.closed_at),
        "close_reason": review.close_reason,
    }


def detail_show(review: Review, decisions: list[Decision]) -> dict[str, Any]:
    said = [
        {
            "person": one.person_label,
            "verdict": one.verdict,
            "reason": one.reason,
            "is_living": one.is_living,
            "at": iso(one.at),
        }
        for one in decisions
    ]
    return {**review_show(review), "evidence": review.evidence, "decisions": said}
