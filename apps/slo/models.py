"""Objectives of endpoints, and how much of their budgets was found to burn."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.kernel.ids import new_id
from apps.kernel.orm import one_of
from apps.kernel.verdicts import Verdict
from apps.slo.domain.objective import Kind, Scope


def objective_id() -> str:
    return new_id("ob")


class Objective(models.Model):
    """What one endpoint promises. ``policy`` is a Policy in JSON; ``team`` owns it, and its people are told."""

    id = models.CharField(primary_key=True, max_length=40, default=objective_id)
    endpoint = models.ForeignKey("targets.Endpoint", on_delete=models.CASCADE, related_name="+")
    team = models.ForeignKey("accounts.Team", on_delete=models.PROTECT, related_name="+")
    name = models.CharField(max_length=80)
    kind = models.CharField(max_length=12)
    scope = models.CharField(max_length=4, default=Scope.ALL)
    target_ppm = models.PositiveIntegerField()
    limit_ms = models.PositiveIntegerField(null=True, blank=True)
    window_seconds = models.PositiveIntegerField(null=True, blank=True)
    period_days = models.PositiveSmallIntegerField(default=30)
    policy = models.JSONField()
    runbook_url = models.CharField(max_length=500, default="", blank=True)
    is_enabled = models.BooleanField(default=True)
    revision = models.PositiveBigIntegerField(default=1)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            one_of("kind", Kind, "objective_kind_known"),
            one_of("scope", Scope, "objective_scope_known"),
            models.UniqueConstraint(fields=["endpoint", "name"], name="objective_name_once"),
            models.CheckConstraint(condition=Q(target_ppm__gt=0, target_ppm__lt=1_000_000), name="objective_target"),
        ]

    def __str__(self) -> str:
        return self.name


class Seeded(models.Model):
    """The endpoint was given its default objectives once; whoever deletes them does not find them again."""

    endpoint = models.OneToOneField("targets.Endpoint", on_delete=models.CASCADE, primary_key=True, related_name="+")
    at = models.DateTimeField(db_default=Now())

    def __str__(self) -> str:
        return self.endpoint_id


class Burn(models.Model):
    """How one objective stands at one variant ("" for all together); written only when it reads differently.

    ``tiers`` as domain/state.py:TierState.to_json; ``firing`` the names of those that are on, longest first in
    ``firing_since``. ``newest_at`` is the last minute with requests, ``changed_at`` when the verdict last changed.
    """

    objective = models.ForeignKey(Objective, on_delete=models.CASCADE, related_name="burns")
    variant = models.CharField(max_length=63, default="", blank=True)
    verdict = models.CharField(max_length=12, default=Verdict.PENDING)
    reason = models.TextField(default="", blank=True)
    tiers = models.JSONField(default=list)
    firing = models.JSONField(default=list)
    firing_since = models.DateTimeField(null=True, blank=True)
    total = models.PositiveBigIntegerField(default=0)
    bad = models.PositiveBigIntegerField(default=0)
    remaining = models.FloatField(null=True, blank=True)
    exhausts_in = models.FloatField(null=True, blank=True)
    newest_at = models.DateTimeField(null=True, blank=True)
    changed_at = models.DateTimeField(db_default=Now())
    computed_at = models.DateTimeField(db_default=Now())
    revision = models.PositiveBigIntegerField(default=1)

    class Meta:
        constraints: ClassVar = [
            one_of("verdict", Verdict, "burn_verdict_known"),
            models.UniqueConstraint(fields=["objective", "variant"], name="burn_once"),
        ]

    def __str__(self) -> str:
        return f"{self.objective_id} {self.variant} {self.verdict}"
