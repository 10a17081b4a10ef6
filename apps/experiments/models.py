"""Experiments: design, periods, what was seen of every unit, sums of that, readouts, decisions."""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from apps.experiments.domain.words import ACTIVE, ReadoutState, Status
from apps.kernel.ids import new_id
from apps.kernel.orm import one_of
from apps.kernel.stats.decision import DecisionKind


class Comparison(StrEnum):
    """What a readout is about: arms of an experiment, or a version in the shadow of another."""

    ARMS = "arms"
    SHADOW = "shadow"


class Fault(IntEnum):
    """Why a unit counts for no arm."""

    NONE = 0
    TWO_ARMS = 1
    MISROUTED = 2


def experiment_id() -> str:
    return new_id("ex")


def readout_id() -> str:
    return new_id("rd")


def study_id() -> str:
    return new_id("st")


def decision_id() -> str:
    return new_id("de")


class Experiment(models.Model):
    """Two versions on one endpoint, compared by a design that is fixed at the start.

    ``planned_total``, ``minimum_days`` and ``coverage_bp`` begin as the design says and may be extended with a reason;
    ``tuned_total`` is what confidence sequences are narrowest at, frozen. ``salt`` places units on the line of arms;
    ``secret`` (sealed) signs the arms' header values, which stand in ``arm_values`` (arm -> value) once it has started.
    ``managed_by`` names the rollout whose step this is ("rollout:ro_…"), "" where it moves the traffic itself.
    ``note`` is the sentence under the title: what it waits for, or how it ended. ``raw_dropped_at``: its exposures and
    outcomes are gone, its sums are what is left; ``raw_counts`` says how many there were.
    """

    id = models.CharField(primary_key=True, max_length=40, default=experiment_id)
    name = models.CharField(max_length=120)
    endpoint = models.ForeignKey("targets.Endpoint", on_delete=models.PROTECT, related_name="+")
    control_version = models.ForeignKey("registry.ModelVersion", on_delete=models.PROTECT, related_name="+")
    treatment_version = models.ForeignKey("registry.ModelVersion", on_delete=models.PROTECT, related_name="+")
    design = models.JSONField(default=dict)
    design_hash = models.CharField(max_length=71, default="", blank=True)
    status = models.CharField(max_length=12, default=Status.DRAFT)
    revision = models.PositiveIntegerField(default=1)
    planned_total = models.PositiveBigIntegerField(default=0)
    tuned_total = models.PositiveBigIntegerField(default=0)
    minimum_days = models.PositiveIntegerField(default=14)
    coverage_bp = models.PositiveIntegerField(default=10_000)
    salt = models.CharField(max_length=64, default="", blank=True)
    secret = models.TextField(default="", blank=True)
    arm_values = models.JSONField(default=dict)
    managed_by = models.CharField(max_length=80, default="", blank=True)
    note = models.TextField(default="", blank=True)
    created_by = models.CharField(max_length=200)
    created_at = models.DateTimeField(db_default=Now())
    asked_at = models.DateTimeField(null=True, blank=True)
    started_at = models.DateTimeField(null=True, blank=True)
    ended_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(db_default=Now())
    look_due_at = models.DateTimeField(null=True, blank=True)
    raw_dropped_at = models.DateTimeField(null=True, blank=True)
    raw_counts = models.JSONField(default=dict, blank=True)

    class Meta:
        constraints: ClassVar = [
            one_of("status", Status, "experiment_status_known"),
            models.CheckConstraint(condition=Q(coverage_bp__gte=1, coverage_bp__lte=10_000), name="experiment_covers"),
            models.UniqueConstraint(
                fields=["endpoint"],
                condition=Q(status__in=sorted(status.value for status in ACTIVE)),
                name="one_active_experiment_per_endpoint",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["due_at"],
                condition=Q(status__in=sorted(status.value for status in ACTIVE)),
                name="experiment_due",
            ),
            models.Index(fields=["endpoint", "-created_at"], name="experiment_by_endpoint"),
        ]

    def __str__(self) -> str:
        return f"{self.name} ({self.status})"


class Period(models.Model):
    """A stretch of constant traffic. ``route_period`` is the endpoint's; the last one is open until the end."""

    id = models.BigAutoField(primary_key=True)
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="periods")
    number = models.PositiveIntegerField()
    route_period = models.PositiveIntegerField()
    weights_bp = models.JSONField()
    coverage_bp = models.PositiveIntegerField()
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("number",)
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["experiment", "number"], name="experiment_period_once")
        ]

    def __str__(self) -> str:
        return f"{self.experiment_id} period {self.number}"


class Exposure(models.Model):
    """The first time a unit saw its arm. ``unit`` is a digest; ``arm`` 0 is the control; ``hour`` counts from 1970.

    ``fault``: a unit that was seen in both arms, or answered by another version than its arm's, counts for neither.
    """

    id = models.BigAutoField(primary_key=True)
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="+")
    unit = models.UUIDField()
    arm = models.PositiveSmallIntegerField()
    period = models.PositiveIntegerField()
    at = models.DateTimeField()
    hour = models.PositiveIntegerField()
    dimensions = models.JSONField(default=dict)
    covariate = models.FloatField(null=True, blank=True)
    fault = models.PositiveSmallIntegerField(default=Fault.NONE)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["experiment", "unit"], name="exposure_once")]
        indexes: ClassVar = [models.Index(fields=["experiment", "hour"], name="exposure_by_hour")]

    def __str__(self) -> str:
        return f"{self.experiment_id} {self.unit}"


class Outcome(models.Model):
    """Something that happened to a unit; it may come before its exposure is reported. ``event_key`` is a digest."""

    id = models.BigAutoField(primary_key=True)
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="+")
    event_key = models.UUIDField()
    unit = models.UUIDField()
    event = models.CharField(max_length=40)
    value = models.FloatField()
    at = models.DateTimeField()

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["experiment", "event_key"], name="outcome_once")]
        indexes: ClassVar = [models.Index(fields=["experiment", "unit", "event"], name="outcome_by_unit")]

    def __str__(self) -> str:
        return f"{self.experiment_id} {self.event}"


class Change(models.Model):
    """An hour of exposures whose cells are no longer right. Only ever added to, so that no two writers wait."""

    id = models.BigAutoField(primary_key=True)
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="+")
    hour = models.PositiveIntegerField()

    class Meta:
        indexes: ClassVar = [models.Index(fields=["experiment", "id"], name="change_by_experiment")]

    def __str__(self) -> str:
        return f"{self.experiment_id} hour {self.hour}"


class Cell(models.Model):
    """Additive sums of one group of units: everything an analysis needs, whatever the traffic was.

    ``sums`` (k) and ``centred`` (k x k, row by row) as in kernel/stats/moments.py; ``histogram`` as its parts in JSON,
    for quantiles. ``dimension`` is "" for all units, else "name=value".
    """

    id = models.BigAutoField(primary_key=True)
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="+")
    period = models.PositiveIntegerField()
    arm = models.PositiveSmallIntegerField()
    metric = models.CharField(max_length=40)
    hour = models.PositiveIntegerField()
    dimension = models.CharField(max_length=80, default="", blank=True)
    n = models.PositiveBigIntegerField(default=0)
    sums = ArrayField(models.FloatField(), default=list)
    centred = ArrayField(models.FloatField(), default=list)
    histogram = models.JSONField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["experiment", "hour", "metric", "dimension", "period", "arm"], name="cell_once"
            )
        ]

    def __str__(self) -> str:
        return f"{self.experiment_id} {self.metric} {self.hour}"


class Readout(models.Model):
    """One look: asked for, computed by a worker, kept with the hash of what it was computed from.

    ``number`` counts looks at new data; a readout of unchanged data repeats the ``number`` and ``result`` of the one
    before (``same_as``) and spends nothing. ``progress`` is 0 to 100. ``rung_at``: when a worker was last called for
    it; ``is_told_late``: that nobody came stands in the log.
    """

    id = models.CharField(primary_key=True, max_length=40, default=readout_id)
    experiment = models.ForeignKey(Experiment, on_delete=models.CASCADE, related_name="readouts")
    comparison = models.CharField(max_length=8, default=Comparison.ARMS)
    state = models.CharField(max_length=12, default=ReadoutState.QUEUED)
    progress = models.PositiveSmallIntegerField(default=0)
    requested_by = models.CharField(max_length=200)
    requested_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    error = models.TextField(default="", blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    rung_at = models.DateTimeField(db_default=Now())
    is_told_late = models.BooleanField(default=False)
    number = models.PositiveIntegerField(default=0)
    as_of = models.DateTimeField(null=True, blank=True)
    information = models.FloatField(default=0.0)
    units = models.PositiveBigIntegerField(default=0)
    kind = models.CharField(max_length=20, default="", blank=True)
    inputs_hash = models.CharField(max_length=71, default="", blank=True)
    same_as = models.ForeignKey("self", on_delete=models.CASCADE, null=True, blank=True, related_name="+")
    inputs = models.JSONField(default=dict)
    result = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar = [
            one_of("state", ReadoutState, "readout_state_known"),
            models.UniqueConstraint(
                fields=["experiment", "number"],
                condition=Q(state=ReadoutState.DONE.value, same_as=None, comparison="arms"),
                name="readout_look_once",
            ),
        ]
        indexes: ClassVar = [
            models.Index(fields=["experiment", "-requested_at"], name="readout_by_experiment"),
            models.Index(
                fields=["requested_at"],
                condition=Q(state__in=[ReadoutState.QUEUED.value, ReadoutState.COMPUTING.value]),
                name="readout_waiting",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.experiment_id} look {self.number}"


class Decision(models.Model):
    """What was decided, from which readout, by whom and why. ``is_override``: against what the numbers said."""

    id = models.CharField(primary_key=True, max_length=40, default=decision_id)
    experiment = models.OneToOneField(Experiment, on_delete=models.PROTECT, related_name="decision")
    readout = models.ForeignKey(Readout, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    kind = models.CharField(max_length=20)
    said = models.CharField(max_length=20, default="", blank=True)
    reasons = models.JSONField(default=list)
    inputs_hash = models.CharField(max_length=71, default="", blank=True)
    reason = models.TextField(default="", blank=True)
    is_override = models.BooleanField(default=False)
    decided_by = models.CharField(max_length=200)
    at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [one_of("kind", DecisionKind, "experiment_decision_known")]

    def __str__(self) -> str:
        return f"{self.experiment_id}: {self.kind}"


class Study(models.Model):
    """A plan tried out by simulation, once per set of inputs: whoever asks the same gets the same answer.

    ``partial`` are the counts of the runs so far; ``done_runs`` of ``runs``. A worker adds a few runs and rings for the
    next ones, so that nothing else in its queue waits for all of them.
    """

    id = models.CharField(primary_key=True, max_length=40, default=study_id)
    inputs_hash = models.CharField(max_length=71, unique=True)
    inputs = models.JSONField(default=dict)
    state = models.CharField(max_length=12, default=ReadoutState.QUEUED)
    runs = models.PositiveIntegerField()
    done_runs = models.PositiveIntegerField(default=0)
    partial = models.JSONField(default=dict)
    result = models.JSONField(default=dict)
    error = models.TextField(default="", blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    requested_by = models.CharField(max_length=200)
    requested_at = models.DateTimeField(db_default=Now())
    rung_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints: ClassVar = [one_of("state", ReadoutState, "study_state_known")]
        indexes: ClassVar = [
            models.Index(
                fields=["rung_at"],
                condition=Q(state__in=[ReadoutState.QUEUED.value, ReadoutState.COMPUTING.value]),
                name="study_waiting",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.pk} {self.state}"

    @property
    def progress(self) -> int:
        return 100 * self.done_runs // max(self.runs, 1)
