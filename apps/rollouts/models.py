"""Rollouts and every step they took."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from apps.kernel.ids import new_id
from apps.kernel.orm import one_of
from apps.rollouts.domain.machine import ACTIVE, Phase
from apps.rollouts.domain.plan import Strategy
from apps.rollouts.domain.sequence import SEQUENCE_ACTIVE, SequencePhase


def rollout_id() -> str:
    return new_id("ro")


def sequence_id() -> str:
    return new_id("rs")


class Rollout(models.Model):
    """The move of an endpoint from its stable version to a candidate, by a plan pinned at the start.

    ``phase`` and ``revision`` change only through ``services/record.py`` (compare-and-swap). ``step`` is the index into
    ``plan["steps"]`` (-1 before the first). ``period`` is the route period of the traffic this step wants.
    ``weight_bp`` is the candidate's wanted weight. ``memo`` holds what ``decide`` remembers between looks
    (since when unready, since when inconclusive, the outcome a rollback will end in).

    ``look_error`` and ``look_failed_at``: the newest look ended in an error (a bug, an unreadable row), since when; the
    next good look clears them. ``asked`` is an abort or rollback that came meanwhile, ``{"command", "by", "reason"}``:
    the first good look carries it out.

    ``due_at``: when the next look is due; ``was_due_at``: when the look that was claimed last had been due, or an
    earlier one where nobody has told yet of the gap since (``services/claim.py``).

    ``starters`` are the ids of the people behind whoever started it: none of them may approve its steps.
    ``acknowledged_at`` and ``acknowledged_by``: a person has seen that it went back; until then it needs somebody.
    ``experiment_id`` names the experiment that its step began, kept when the step is over; "" for none.
    ``warm_until``: a promoted rollout keeps the version before up until then; null once it has been released.
    ``promotion_id`` names the registry's request for a protected alias that this rollout brings; "" for none.
    """

    id = models.CharField(primary_key=True, max_length=40, default=rollout_id)
    endpoint = models.ForeignKey("targets.Endpoint", on_delete=models.PROTECT, related_name="+")
    stable_version = models.ForeignKey("registry.ModelVersion", on_delete=models.PROTECT, related_name="+")
    candidate_version = models.ForeignKey("registry.ModelVersion", on_delete=models.PROTECT, related_name="+")
    strategy = models.CharField(max_length=16)
    plan = models.JSONField()
    plan_hash = models.CharField(max_length=71)
    phase = models.CharField(max_length=16, default=Phase.PENDING)
    step = models.IntegerField(default=-1)
    revision = models.PositiveIntegerField(default=1)
    attempt = models.PositiveIntegerField(default=1)
    retry_of = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    supersedes = models.ForeignKey("self", on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    weight_bp = models.PositiveIntegerField(default=0)
    mirror_bp = models.PositiveIntegerField(default=0)
    first_period = models.PositiveIntegerField(default=0)
    period = models.PositiveIntegerField(default=0)
    memo = models.JSONField(default=dict)
    reason = models.TextField(default="", blank=True)
    findings = models.JSONField(default=list)
    note = models.TextField(default="", blank=True)
    created_by = models.CharField(max_length=200)
    starters = models.JSONField(default=list)
    promotion_id = models.CharField(max_length=40, default="", blank=True)
    experiment_id = models.CharField(max_length=40, default="", blank=True)
    created_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True)
    step_started_at = models.DateTimeField(null=True, blank=True)
    phase_started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(db_default=Now())
    was_due_at = models.DateTimeField(null=True, blank=True)
    look_failed_at = models.DateTimeField(null=True, blank=True)
    look_error = models.TextField(default="", blank=True)
    asked = models.JSONField(null=True, blank=True)
    warm_until = models.DateTimeField(null=True, blank=True)
    acknowledged_at = models.DateTimeField(null=True, blank=True)
    acknowledged_by = models.CharField(max_length=200, default="", blank=True)

    class Meta:
        constraints: ClassVar = [
            one_of("phase", Phase, "rollout_phase_known"),
            one_of("strategy", Strategy, "rollout_strategy_known"),
            models.UniqueConstraint(
                fields=["endpoint"],
                condition=models.Q(phase__in=sorted(phase.value for phase in ACTIVE if phase is not Phase.PENDING)),
                name="one_active_rollout_per_endpoint",
            ),
        ]
        indexes: ClassVar = [
            models.Index(
                fields=["due_at"],
                condition=models.Q(phase__in=sorted(phase.value for phase in ACTIVE)),
                name="rollout_due",
            ),
            models.Index(fields=["endpoint", "-created_at"], name="rollout_by_endpoint"),
            models.Index(fields=["warm_until"], condition=models.Q(warm_until__isnull=False), name="rollout_warm"),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.phase}"


class Decided(models.Model):
    """One recorded decision: what was known (canonical JSON), what was done, why, and by which code.

    ``code_hash`` is the SHA-256 of the deciding modules' source: a stored decision replays byte for byte under it.
    """

    id = models.BigAutoField(primary_key=True)
    revision = models.PositiveIntegerField()
    from_phase = models.CharField(max_length=16)
    to_phase = models.CharField(max_length=16)
    action = models.CharField(max_length=16)
    reason = models.TextField()
    actor_label = models.CharField(max_length=200)
    state = models.TextField(default="")
    seen = models.TextField(default="")
    decision = models.TextField(default="")
    code_hash = models.CharField(max_length=71, default="", blank=True)
    at = models.DateTimeField()

    class Meta:
        abstract = True
        ordering = ("id",)


class Transition(Decided):
    """A decision about a rollout."""

    rollout = models.ForeignKey(Rollout, on_delete=models.PROTECT, related_name="transitions")
    step = models.IntegerField()
    weight_bp = models.PositiveIntegerField()
    generation = models.PositiveIntegerField()
    epoch = models.PositiveBigIntegerField(default=0)

    class Meta(Decided.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["rollout", "revision"], name="transition_once_per_revision")
        ]

    def __str__(self) -> str:
        return f"{self.rollout_id}@{self.revision} {self.from_phase}->{self.to_phase}"


class RolloutSequence(models.Model):
    """One version to several endpoints in waves; each member is a rollout of its own.

    ``phase``, ``wave`` and ``revision`` change only through ``services/sequence_record.py`` (compare-and-swap).
    ``plan`` is the pinned ``SequencePlan``. ``starters`` and ``starter_chain`` are who stands behind the start: the
    members' rollouts begin in their name, and none of ``starters`` may approve their steps. ``look_error``: as for a
    rollout.
    """

    id = models.CharField(primary_key=True, max_length=40, default=sequence_id)
    candidate_version = models.ForeignKey("registry.ModelVersion", on_delete=models.PROTECT, related_name="+")
    plan = models.JSONField()
    plan_hash = models.CharField(max_length=71)
    phase = models.CharField(max_length=16, default=SequencePhase.RUNNING)
    wave = models.PositiveIntegerField(default=0)
    revision = models.PositiveIntegerField(default=1)
    memo = models.JSONField(default=dict)
    reason = models.TextField(default="", blank=True)
    note = models.TextField(default="", blank=True)
    created_by = models.CharField(max_length=200)
    starters = models.JSONField(default=list)
    starter_chain = models.JSONField(default=list)
    created_at = models.DateTimeField(db_default=Now())
    phase_started_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True, blank=True)
    due_at = models.DateTimeField(db_default=Now())
    look_error = models.TextField(default="", blank=True)

    class Meta:
        constraints: ClassVar = [one_of("phase", SequencePhase, "sequence_phase_known")]
        indexes: ClassVar = [
            models.Index(
                fields=["due_at"],
                condition=models.Q(phase__in=sorted(phase.value for phase in SEQUENCE_ACTIVE)),
                name="sequence_due",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.id} {self.phase}"


class SequenceMember(models.Model):
    """One endpoint of a sequence. ``plan`` is what its rollout is pinned to; ``rollout`` its newest attempt, ``back``
    the rollout that brings the version before back, ``left`` why there is none although it should have gone back."""

    id = models.BigAutoField(primary_key=True)
    sequence = models.ForeignKey(RolloutSequence, on_delete=models.PROTECT, related_name="members")
    endpoint = models.ForeignKey("targets.Endpoint", on_delete=models.PROTECT, related_name="+")
    wave = models.PositiveIntegerField()
    place = models.PositiveIntegerField()
    plan = models.JSONField()
    plan_hash = models.CharField(max_length=71)
    rollout = models.OneToOneField(Rollout, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    back = models.OneToOneField(Rollout, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    left = models.TextField(default="", blank=True)

    class Meta:
        ordering = ("wave", "place")
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["sequence", "endpoint"], name="endpoint_once_per_sequence")
        ]

    def __str__(self) -> str:
        return f"{self.sequence_id} wave {self.wave + 1}: {self.endpoint_id}"


class SequenceTransition(Decided):
    """A decision about a sequence."""

    sequence = models.ForeignKey(RolloutSequence, on_delete=models.PROTECT, related_name="transitions")
    wave = models.PositiveIntegerField()

    class Meta(Decided.Meta):
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["sequence", "revision"], name="sequence_transition_once_per_revision")
        ]

    def __str__(self) -> str:
        return f"{self.sequence_id}@{self.revision} {self.from_phase}->{self.to_phase}"
