"""Models and versions, and their tags."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Left, Now

from apps.kernel.ids import new_id
from apps.kernel.orm import one_of
from apps.registry.domain.words import ModelKind, Stage, Trust, VersionStatus

INDEXED_VALUE = 120
"""Tag values are indexed by their first characters: a B-tree cannot hold 100,000."""
LIVING = Q(deleted_at=None)


def model_id() -> str:
    return new_id("mo")


def version_id() -> str:
    return new_id("mv")


def default_protected() -> list[str]:
    """The aliases of a new model that move by a promotion request only."""
    return ["champion", "production"]


class LivingModels(models.Manager["Model"]):
    def get_queryset(self) -> models.QuerySet[Model]:
        return super().get_queryset().filter(deleted_at=None)


class LivingVersions(models.Manager["ModelVersion"]):
    def get_queryset(self) -> models.QuerySet[ModelVersion]:
        return super().get_queryset().filter(deleted_at=None)


class Model(models.Model):
    """A named line of versions. ``objects`` are the living ones, ``everything`` holds the deleted as well.

    ``next_number`` never goes back, so a number is never given twice: a deleted model stays as a tombstone, a renamed
    one leaves a tombstone under its old name, and a model made under the name of a tombstone goes on counting there.
    """

    id = models.CharField(primary_key=True, max_length=40, default=model_id)
    name = models.CharField(max_length=256)
    kind = models.CharField(max_length=8, default=ModelKind.MODEL)
    team = models.ForeignKey("accounts.Team", on_delete=models.PROTECT, related_name="+")
    description = models.TextField(default="", blank=True)
    next_number = models.PositiveIntegerField(default=1)
    protected_aliases = models.JSONField(default=default_protected)
    created_at = models.DateTimeField(db_default=Now())
    created_by = models.CharField(max_length=200)
    updated_at = models.DateTimeField(db_default=Now())
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = LivingModels()
    everything: ClassVar[models.Manager[Model]] = models.Manager()

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["name"], condition=LIVING, name="model_name_once"),
            one_of("kind", ModelKind, "model_kind_known"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["name"], name="model_by_name"),
            models.Index(fields=["-updated_at", "name"], condition=LIVING, name="model_by_change"),
        ]

    def __str__(self) -> str:
        return self.name


class ModelVersion(models.Model):
    """One version. Immutable but for description, tags, stage, status, card, evaluations and image.

    ``number`` is MLflow's dense version. The semver (``major``, ``minor``, ``patch``) is empty until the signature is
    known; ``semver_wanted`` is what the author asked for until then. ``source_uri`` is what the author wrote,
    verbatim, never followed by the web process; ``storage_uri`` is where the bytes that were verified here lie ("" for
    none), and ``trust`` says how much is known of them.
    ``signature`` is ``{"inputs": [{"name", "type", "required"}], "outputs": […]}``; ``input_constraints`` are the
    declared nullability and ranges of the inputs (docs/concepts/contracts.md, section 4). ``inspection`` is what
    verification saw (formats, imports of pickles, warnings). ``evaluations`` is a list of gate results
    ``{"name", "verdict", "value", "limit", "data_digest", "at"}``. ``image`` is a container image, by digest, that
    serves this version and holds its files ("" for none).
    """

    id = models.CharField(primary_key=True, max_length=40, default=version_id)
    # version_number_once begins with the model: an index of its own would only cost every registration.
    model = models.ForeignKey(Model, on_delete=models.PROTECT, related_name="versions", db_index=False)
    number = models.PositiveIntegerField()
    major = models.PositiveIntegerField(null=True, blank=True)
    minor = models.PositiveIntegerField(null=True, blank=True)
    patch = models.PositiveIntegerField(null=True, blank=True)
    semver_wanted = models.CharField(max_length=40, default="", blank=True)
    status = models.CharField(max_length=24, default=VersionStatus.READY)
    status_message = models.TextField(default="", blank=True)
    stage = models.CharField(max_length=12, default=Stage.NONE)
    trust = models.CharField(max_length=12, default=Trust.UNVERIFIED)
    source_uri = models.CharField(max_length=2000)
    storage_uri = models.CharField(max_length=2000, default="", blank=True)
    artifact_digest = models.CharField(max_length=71, default="", blank=True)
    size_bytes = models.BigIntegerField(default=0)
    flavor = models.CharField(max_length=60, default="", blank=True)
    format = models.CharField(max_length=60, default="", blank=True)
    inspection = models.JSONField(default=dict)
    signature = models.JSONField(default=dict)
    input_constraints = models.JSONField(default=dict)
    reference_profile = models.JSONField(default=dict)
    metrics = models.JSONField(default=dict)
    metrics_data_digest = models.CharField(max_length=71, default="", blank=True)
    params = models.JSONField(default=dict)
    evaluations = models.JSONField(default=list)
    lineage = models.JSONField(default=dict)
    parent = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="children")
    run_id = models.CharField(max_length=64, default="", blank=True)
    run_link = models.CharField(max_length=2000, default="", blank=True)
    mlflow_model_id = models.CharField(max_length=64, default="", blank=True)
    git_commit = models.CharField(max_length=64, default="", blank=True)
    image = models.CharField(max_length=600, default="", blank=True)
    description = models.TextField(default="", blank=True)
    card = models.TextField(default="", blank=True)
    created_at = models.DateTimeField(db_default=Now())
    created_by = models.CharField(max_length=200)
    updated_at = models.DateTimeField(db_default=Now())
    deleted_at = models.DateTimeField(null=True, blank=True)

    objects = LivingVersions()
    everything: ClassVar[models.Manager[ModelVersion]] = models.Manager()

    class Meta:
        constraints: ClassVar = [
            # A deleted version keeps its number and its semver: neither may ever mean other bytes.
            models.UniqueConstraint(fields=["model", "number"], name="version_number_once"),
            models.UniqueConstraint(fields=["model", "major", "minor", "patch"], name="version_semver_once"),
            models.UniqueConstraint(
                fields=["model"], condition=LIVING & Q(stage=Stage.PRODUCTION.value), name="version_one_in_production"
            ),
            models.CheckConstraint(
                condition=Q(major=None, minor=None, patch=None)
                | Q(major__isnull=False, minor__isnull=False, patch__isnull=False),
                name="version_semver_whole",
            ),
            one_of("status", VersionStatus, "version_status_known"),
            one_of("stage", Stage, "version_stage_known"),
            one_of("trust", Trust, "version_trust_known"),
        ]
        indexes: ClassVar = [
            models.Index(fields=["model", "stage", "-number"], condition=LIVING, name="version_latest_in_stage"),
            models.Index(fields=["-updated_at", "id"], condition=LIVING, name="version_by_change"),
            models.Index(fields=["run_id"], condition=LIVING & ~Q(run_id=""), name="version_by_run"),
            models.Index(fields=["status"], condition=Q(status="pending_registration"), name="version_pending"),
        ]

    @property
    def semver(self) -> str:
        """ "" as long as the signature is not known."""
        return "" if self.major is None else f"{self.major}.{self.minor}.{self.patch}"

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts by semver; a version without one comes first."""
        return (self.major or 0, self.minor or 0, self.patch or 0)

    @property
    def reference(self) -> str:
        """What the version is called in addresses and sentences: its semver, or its number while it has none."""
        return self.semver or str(self.number)

    @property
    def variant_key(self) -> str:
        """The key of this version's variant on any endpoint of its model (lower case, digits, hyphens)."""
        return f"n{self.number}" if self.major is None else f"v{self.major}-{self.minor}-{self.patch}"

    def __str__(self) -> str:
        return f"{self.model_id} {self.reference}"


class ModelTag(models.Model):
    """A key and a value on a model."""

    model = models.ForeignKey(Model, on_delete=models.CASCADE, related_name="tags")
    key = models.CharField(max_length=250)
    value = models.TextField(default="", blank=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["model", "key"], name="model_tag_once")]

    def __str__(self) -> str:
        return self.key


class VersionTag(models.Model):
    """A key and a value on a version."""

    version = models.ForeignKey(ModelVersion, on_delete=models.CASCADE, related_name="tags")
    key = models.CharField(max_length=250)
    value = models.TextField(default="", blank=True)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["version", "key"], name="version_tag_once")]
        indexes: ClassVar = [models.Index(F("key"), Left("value", INDEXED_VALUE), F("version"), name="version_by_tag")]

    def __str__(self) -> str:
        return self.key
