"""Requests for a person's decision, whatever they are about, and the decisions."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.kernel.ids import new_id
from apps.kernel.orm import one_of
from apps.reviews.domain.states import STANDING, OnExpiry, State, Verdict


class Review(models.Model):
    """One question to people. Everything but state, revision and the end's fields is frozen by a trigger.

    ``subject_part`` tells several reviews of one subject apart (a rollout's steps). ``barred`` are the ids of the
    people who may not decide under four eyes: whoever asked, whoever is behind their key, the author. ``wake_task`` and
    ``wake_kwargs`` name the Celery task that is rung when the review ends: nothing here knows who polls.
    """

    id = models.CharField(primary_key=True, max_length=32, default=partial(new_id, "rv"))
    subject_kind = models.CharField(max_length=32)
    subject_id = models.CharField(max_length=64)
    subject_part = models.CharField(max_length=64, default="", blank=True)
    subject_label = models.CharField(max_length=200)
    subject_url = models.CharField(max_length=300, default="", blank=True)
    title = models.CharField(max_length=200)
    request = models.TextField(default="", blank=True)
    requested_kind = models.CharField(max_length=16)
    requested_id = models.CharField(max_length=64)
    requested_label = models.CharField(max_length=200)
    requested_chain = models.JSONField(default=list)
    barred = models.JSONField(default=list)
    team = models.CharField(max_length=32, default="", blank=True)
    environment = models.CharField(max_length=16, default="", blank=True)
    plan_hash = models.CharField(max_length=71)
    evidence = models.JSONField(default=dict)
    evidence_hash = models.CharField(max_length=71)
    quorum = models.PositiveSmallIntegerField(default=1)
    action = models.CharField(max_length=64, default="review.decide")
    four_eyes = models.BooleanField(default=True)
    deadline_at = models.DateTimeField(null=True, blank=True)
    on_expiry = models.CharField(max_length=8, default=OnExpiry.HOLD.value)
    wake_task = models.CharField(max_length=120, default="", blank=True)
    wake_kwargs = models.JSONField(default=dict)
    state = models.CharField(max_length=16, default=State.OPEN.value)
    revision = models.PositiveIntegerField(default=1)
    opened_at = models.DateTimeField(db_default=Now())
    closed_at = models.DateTimeField(null=True, blank=True)
    close_reason = models.TextField(default="", blank=True)

    class Meta:
        constraints: ClassVar = [
            one_of("state", State, "review_state_known"),
            one_of("on_expiry", OnExpiry, "review_expires_safely"),
            models.CheckConstraint(condition=Q(quorum__gte=1), name="review_quorum_positive"),
            models.CheckConstraint(
                condition=Q(state="open", closed_at=None) | (~Q(state="open") & Q(closed_at__isnull=False)),
                name="review_closed_has_a_time",
            ),
            models.UniqueConstraint(
                fields=["subject_kind", "subject_id", "subject_part", "plan_hash"],
                condition=Q(state__in=sorted(STANDING)),
                name="review_once_per_plan",
            ),
            models.UniqueConstraint(
                fields=["subject_kind", "subject_id", "subject_part"],
                condition=Q(state="open"),
                name="review_one_open",
            ),
        ]
        indexes = (
            models.Index(fields=["state", "-id"], name="review_by_state"),
            models.Index(fields=["deadline_at"], name="review_due", condition=Q(state="open")),
        )

    def __str__(self) -> str:
        return f"{self.title} ({self.state})"


class Decision(models.Model):
    """What one person said, having seen the plan and evidence of these hashes. A later one of theirs replaces it;
    comments replace nothing. A trigger refuses whoever is barred and whatever is not open."""

    id = models.BigAutoField(primary_key=True)
    review = models.ForeignKey(Review, on_delete=models.PROTECT, related_name="decisions")
    person_id = models.CharField(max_length=64)
    person_label = models.CharField(max_length=200)
    verdict = models.CharField(max_length=16)
    reason = models.TextField(default="", blank=True)
    plan_hash = models.CharField(max_length=71)
    evidence_hash = models.CharField(max_length=71)
    is_living = models.BooleanField(default=True)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        ordering = ("id",)
        constraints: ClassVar = [
            one_of("verdict", Verdict, "decision_verdict_known"),
            models.CheckConstraint(
                condition=Q(verdict=Verdict.APPROVE.value) | ~Q(reason=""),
                name="decision_has_a_reason",
            ),
            models.UniqueConstraint(
                fields=["review", "person_id"],
                condition=Q(is_living=True) & ~Q(verdict="comment"),
                name="decision_one_living_per_person",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.person_label}: {self.verdict}"
