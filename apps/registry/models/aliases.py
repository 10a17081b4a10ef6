"""Aliases, where they pointed before, and the requests to move those that are protected."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.kernel.ids import new_id
from apps.kernel.orm import one_of
from apps.registry.domain.words import PromotionState
from apps.registry.models.catalogue import Model, ModelVersion


def promotion_id() -> str:
    return new_id("pr")


class Alias(models.Model):
    """A name that points at one version of a model and can be moved."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="aliases")
    name = models.CharField(max_length=255)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="aliases")
    moved_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["model", "name"], name="alias_once")]

    def __str__(self) -> str:
        return self.name


class PromotionRequest(models.Model):
    """Somebody wants a protected alias to point at a version (``version`` empty: to point nowhere).

    Recorded here, decided and carried out above: rollouts opens the review; ``review_id`` and ``rollout_id`` are ids as
    text. ``asked_people`` are the ids of the persons behind whoever asked: four eyes count these. At most one is open
    per alias and version.
    """

    id = models.CharField(primary_key=True, max_length=40, default=promotion_id)
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="promotion_requests")
    alias = models.CharField(max_length=255)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, null=True, related_name="+")
    seen_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, null=True, related_name="+")
    state = models.CharField(max_length=12, default=PromotionState.OPEN)
    review_id = models.CharField(max_length=40, default="", blank=True)
    rollout_id = models.CharField(max_length=40, default="", blank=True)
    note = models.TextField(default="", blank=True)
    asked_kind = models.CharField(max_length=16)
    asked_id = models.CharField(max_length=80)
    asked_by = models.CharField(max_length=200)
    asked_people = models.JSONField(default=list)
    asked_at = models.DateTimeField(db_default=Now())
    settled_by = models.CharField(max_length=200, default="", blank=True)
    settled_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["model", "alias", "version"],
                condition=Q(state=PromotionState.OPEN.value),
                name="promotion_open_once",
            ),
            one_of("state", PromotionState, "promotion_state_known"),
        ]
        indexes: ClassVar = [models.Index(fields=["state", "asked_at"], name="promotion_by_state")]

    def __str__(self) -> str:
        return f"{self.alias} of {self.model_id}"

    @property
    def url(self) -> str:
        """The path of its page."""
        return f"/models/promotions/{self.id}/"


class AliasMove(models.Model):
    """One move of an alias; never changed: a trigger refuses it. Either end may be empty.

    Of a protected alias it names the request, the review and the rollout that it came by, and in ``people`` those who
    approved: ``[{"id", "name"}]``.
    """

    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="alias_moves")
    name = models.CharField(max_length=255)
    from_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, null=True, related_name="+")
    to_version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, null=True, related_name="+")
    at = models.DateTimeField()
    moved_by = models.CharField(max_length=200)
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=80)
    request = models.ForeignKey(PromotionRequest, on_delete=models.PROTECT, null=True, related_name="moves")
    review_id = models.CharField(max_length=40, default="", blank=True)
    rollout_id = models.CharField(max_length=40, default="", blank=True)
    people = models.JSONField(default=list)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["model", "name", "-at", "-id"], name="alias_move_by_time")]

    def __str__(self) -> str:
        return f"{self.name} at {self.at}"
