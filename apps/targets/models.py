"""Targets, the endpoints on them (what is desired, what was observed, who may act), and builds of images there."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from apps.kernel.ids import new_id
from apps.kernel.orm import one_of
from apps.kernel.vault import sealed_field
from apps.targets.images.builds import OPEN, BuildState


class TargetKind(StrEnum):
    LOCAL = "local"
    FAKE = "fake"
    KUBERNETES = "kubernetes"


class Environment(StrEnum):
    DEVELOPMENT = "development"
    STAGING = "staging"
    PRODUCTION = "production"


class TrafficPolicy(StrEnum):
    """What a rollout does at an endpoint that nobody calls: wait, call it itself, or go on and say so."""

    HOLD = "hold"
    PROBE = "probe"
    SKIP = "skip"


def target_id() -> str:
    return new_id("tg")


def endpoint_id() -> str:
    return new_id("ep")


def freeze_id() -> str:
    return new_id("fw")


class Target(models.Model):
    """A place that runs models. ``connection`` is the driver's own (local: ``{"url", "token_file"}``) and may be seen;
    ``credentials`` are what opens it, sealed by the vault (``services/credentials.py``), and may not. ``revision``
    grows with every change that a person makes, not with what a probe finds."""

    id = models.CharField(primary_key=True, max_length=40, default=target_id)
    name = models.SlugField(max_length=80, unique=True)
    kind = models.CharField(max_length=16)
    environment = models.CharField(max_length=16, default=Environment.DEVELOPMENT)
    connection = models.JSONField(default=dict)
    credentials = models.TextField(default="", blank=True)
    credentials_at = models.DateTimeField(null=True, blank=True)
    no_traffic_policy = models.CharField(max_length=8, default=TrafficPolicy.HOLD)
    capabilities = models.JSONField(default=dict)
    probe_error = models.TextField(default="", blank=True)
    probed_at = models.DateTimeField(null=True, blank=True)
    revision = models.PositiveBigIntegerField(default=1)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            one_of("kind", TargetKind, "target_kind_known"),
            one_of("environment", Environment, "target_environment_known"),
            one_of("no_traffic_policy", TrafficPolicy, "target_traffic_policy_known"),
        ]

    def __str__(self) -> str:
        return self.name


class Endpoint(models.Model):
    """One model served on one target.

    ``desired`` is an EndpointPlan in wire form and ``generation`` its number; ``observed`` is what the target last
    said. The lease (``lease_holder``, ``lease_until`` by the database's clock) says who may act; ``lease_epoch`` grows
    whenever it changes hands and is checked at the target, because a lease alone lets a frozen worker write late.

    ``traffic_holder`` names what moves the endpoint's traffic for days ("experiment:ex_…"), "" for nobody: while it is
    set, ``endpoint_desire`` refuses everybody else. The lease is for a moment's work, this is for a whole story.

    ``follows`` is an alias of the model, or "": an approved move of that alias starts a rollout here.

    ``applied_generation`` is the newest generation that the target *accepted* from us (0 after it was seen to hold
    something else); whether it is true there stands in ``observed``. ``apply_attempts`` counts failures in a row, for
    the growing delay in ``reconcile_due_at``. ``removed_at`` with an ``applied_generation`` behind means: still to be
    removed at the target.
    """

    id = models.CharField(primary_key=True, max_length=40, default=endpoint_id)
    name = models.SlugField(max_length=80, unique=True)
    target = models.ForeignKey(Target, on_delete=models.PROTECT, related_name="endpoints")
    model = models.ForeignKey("registry.Model", on_delete=models.PROTECT, related_name="+")
    team = models.ForeignKey("accounts.Team", on_delete=models.PROTECT, related_name="+")
    follows = models.CharField(max_length=255, default="", blank=True)
    stable_version = models.ForeignKey("registry.ModelVersion", on_delete=models.PROTECT, null=True, related_name="+")
    desired = models.JSONField(default=dict)
    generation = models.PositiveIntegerField(default=0)
    observed = models.JSONField(null=True, blank=True)
    observed_at = models.DateTimeField(null=True, blank=True)
    observe_error = models.TextField(default="", blank=True)
    applied_generation = models.PositiveIntegerField(default=0)
    apply_error = models.TextField(default="", blank=True)
    apply_attempts = models.PositiveSmallIntegerField(default=0)
    revision = models.PositiveBigIntegerField(default=0)
    lease_holder = models.CharField(max_length=80, default="", blank=True)
    lease_epoch = models.PositiveBigIntegerField(default=0)
    lease_until = models.DateTimeField(null=True, blank=True)
    traffic_holder = models.CharField(max_length=80, default="", blank=True)
    reconcile_due_at = models.DateTimeField(db_default=Now())
    removed_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar = [
            models.Index(
                fields=["reconcile_due_at"],
                condition=~models.Q(applied_generation=models.F("generation")) | ~models.Q(apply_error=""),
                name="endpoint_due",
            )
        ]

    def __str__(self) -> str:
        return self.name


class FreezeWindow(models.Model):
    """Between ``starts_at`` and ``ends_at`` no rollout starts or moves forward; rolling back is always possible."""

    id = models.CharField(primary_key=True, max_length=40, default=freeze_id)
    environment = models.CharField(max_length=16, default="", blank=True)
    endpoint = models.ForeignKey(Endpoint, on_delete=models.CASCADE, null=True, blank=True, related_name="freezes")
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    reason = models.CharField(max_length=300)
    created_by = models.CharField(max_length=200)

    class Meta:
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=models.Q(ends_at__gt=models.F("starts_at")), name="freeze_ends_after_start"
            )
        ]

    def __str__(self) -> str:
        return f"freeze {self.starts_at} to {self.ends_at}: {self.reason}"


def build_id() -> str:
    return new_id("ib")


class ImageBuild(models.Model):
    """One build of a version's container image in a target's cluster.

    ``image`` is where it is pushed, with a tag; ``digest`` what came of it; ``base`` the image below it.
    ``look_due_at`` is when a worker looks again; a doorbell that is lost changes nothing.
    """

    id = models.CharField(primary_key=True, max_length=40, default=build_id)
    target = models.ForeignKey(Target, on_delete=models.PROTECT, related_name="+")
    version = models.ForeignKey("registry.ModelVersion", on_delete=models.CASCADE, related_name="+")
    state = models.CharField(max_length=12, default=BuildState.QUEUED)
    image = models.CharField(max_length=600)
    base = models.CharField(max_length=600)
    digest = models.CharField(max_length=71, default="", blank=True)
    reason = models.TextField(default="", blank=True)
    asked_by = models.CharField(max_length=200)
    asked_at = models.DateTimeField(db_default=Now())
    ended_at = models.DateTimeField(null=True, blank=True)
    look_due_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            one_of("state", BuildState, "image_build_state_known"),
            models.UniqueConstraint(
                fields=["target", "version"], condition=models.Q(state__in=OPEN), name="image_build_one_at_a_time"
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["look_due_at"], condition=models.Q(state__in=OPEN), name="image_build_due"),
            models.Index(fields=["version", "-asked_at"], name="image_build_of_version"),
        ]

    @property
    def job_name(self) -> str:
        """The build's name at the target."""
        return f"pilothouse-{self.id.replace('_', '-').lower()}"

    def __str__(self) -> str:
        return f"build of {self.image}"


sealed_field("targets.Target", "credentials")
