"""Models, their immutable versions, and the aliases that point at them."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from apps.kernel.ids import new_id
from apps.kernel.orm import one_of


class VersionStatus(StrEnum):
    PENDING = "pending_registration"
    READY = "ready"
    FAILED = "failed_registration"


def model_id() -> str:
    return new_id("mo")


def version_id() -> str:
    return new_id("mv")


class Model(models.Model):
    """A named line of versions. ``next_number`` never goes back, so a number is never given twice."""

    id = models.CharField(primary_key=True, max_length=40, default=model_id)
    name = models.CharField(max_length=200, unique=True)
    description = models.TextField(default="", blank=True)
    next_number = models.PositiveIntegerField(default=1)
    created_at = models.DateTimeField(db_default=Now())
    created_by = models.CharField(max_length=200)

    def __str__(self) -> str:
        return self.name


class ModelVersion(models.Model):
    """One immutable version.

    ``signature`` is ``{"inputs": [{"name", "type", "required"}], "outputs": […]}``; ``input_constraints`` are the
    declared nullability and ranges of the inputs (docs/concepts/contracts.md, section 4).
    """

    id = models.CharField(primary_key=True, max_length=40, default=version_id)
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="versions")
    number = models.PositiveIntegerField()
    major = models.PositiveIntegerField()
    minor = models.PositiveIntegerField()
    patch = models.PositiveIntegerField()
    status = models.CharField(max_length=24, default=VersionStatus.READY)
    status_message = models.TextField(default="", blank=True)
    source_uri = models.CharField(max_length=1000)
    artifact_digest = models.CharField(max_length=71)
    size_bytes = models.BigIntegerField(default=0)
    flavor = models.CharField(max_length=60, default="", blank=True)
    signature = models.JSONField(default=dict)
    input_constraints = models.JSONField(default=dict)
    metrics = models.JSONField(default=dict)
    params = models.JSONField(default=dict)
    run_id = models.CharField(max_length=64, default="", blank=True)
    description = models.TextField(default="", blank=True)
    created_at = models.DateTimeField(db_default=Now())
    created_by = models.CharField(max_length=200)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "number"], name="version_number_once"),
            models.UniqueConstraint(fields=["model", "major", "minor", "patch"], name="version_semver_once"),
            one_of("status", VersionStatus, "version_status_known"),
        ]

    @property
    def semver(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @property
    def variant_key(self) -> str:
        """The key of this version's variant on any endpoint of its model (lower case, digits, hyphens)."""
        return f"v{self.major}-{self.minor}-{self.patch}"

    def __str__(self) -> str:
        return f"{self.model_id} {self.semver}"


class Alias(models.Model):
    """A name that points at one version of a model and can be moved."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="aliases")
    name = models.CharField(max_length=80)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="aliases")
    moved_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["model", "name"], name="alias_once")]

    def __str__(self) -> str:
        return self.name
