"""The audit log: append-only, each entry carries the hash of the one before; signed checkpoints of its head."""

from __future__ import annotations

from django.db import models
from django.db.models.functions import Now


class Event(models.Model):
    """One act. A trigger refuses UPDATE, DELETE and TRUNCATE; actor and subject are text that outlives rows.

    ``version`` says by which rule the entry is hashed (domain/chain.py); ``actor_chain`` who stands behind whom, the
    person first. Both are hashed.
    """

    seq = models.BigIntegerField(primary_key=True)
    version = models.SmallIntegerField(default=1)
    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=64)
    actor_label = models.CharField(max_length=200)
    actor_chain = models.JSONField(default=list)
    verb = models.CharField(max_length=64)
    subject_kind = models.CharField(max_length=32)
    subject_id = models.CharField(max_length=64)
    subject_label = models.CharField(max_length=200)
    detail = models.JSONField(default=dict)
    request_id = models.CharField(max_length=128, default="", blank=True)
    prev_hash = models.CharField(max_length=71)
    hash = models.CharField(max_length=71, unique=True)

    class Meta:
        ordering = ("seq",)
        indexes = (
            models.Index(fields=["subject_kind", "subject_id", "seq"], name="audit_by_subject"),
            models.Index(fields=["actor_label", "seq"], name="audit_by_actor"),
            models.Index(fields=["verb", "seq"], name="audit_by_verb"),
            models.Index(fields=["request_id"], name="audit_by_request", condition=~models.Q(request_id="")),
            models.Index(fields=["at"], name="audit_by_time"),
        )

    def __str__(self) -> str:
        return f"{self.seq} {self.verb} {self.subject_label}"


class Checkpoint(models.Model):
    """Says that up to ``seq`` the log was this (``hash`` is that entry's), signed. Append-only by a trigger."""

    number = models.BigIntegerField(primary_key=True)
    seq = models.BigIntegerField()
    hash = models.CharField(max_length=71)
    at = models.DateTimeField()
    prev = models.CharField(max_length=71)
    key_id = models.CharField(max_length=40)
    signature = models.CharField(max_length=100)

    class Meta:
        ordering = ("number",)
        indexes = (models.Index(fields=["seq"], name="audit_checkpoint_by_seq"),)

    def __str__(self) -> str:
        return f"checkpoint {self.number} at {self.seq}"


class CheckpointKey(models.Model):
    """A public key that checkpoints were signed with; ``public`` is the raw Ed25519 key in base64. Append-only."""

    key_id = models.CharField(primary_key=True, max_length=40)
    public = models.CharField(max_length=64)
    created_at = models.DateTimeField()

    class Meta:
        ordering = ("created_at", "key_id")

    def __str__(self) -> str:
        return self.key_id


class Delivery(models.Model):
    """A checkpoint on its way to the sink outside; due rows are tried again until they are delivered."""

    checkpoint = models.OneToOneField(Checkpoint, primary_key=True, on_delete=models.PROTECT, related_name="delivery")
    sink = models.CharField(max_length=500)
    attempts = models.PositiveIntegerField(default=0)
    last_error = models.TextField(default="", blank=True)
    due_at = models.DateTimeField(db_default=Now())
    delivered_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = (
            models.Index(fields=["due_at"], name="audit_delivery_due", condition=models.Q(delivered_at__isnull=True)),
        )

    def __str__(self) -> str:
        return f"checkpoint {self.pk} to {self.sink}"


class ChainState(models.Model):
    """How far the log was read back (one row). It is a note of the program's own work: the proof is the checkpoints.

    ``head_*`` follows the newest entry; ``rescan_*`` reads from the first entry again and again; ``first_bad`` stays
    until a whole pass finds nothing.
    """

    id = models.SmallIntegerField(primary_key=True, default=1)
    head_seq = models.BigIntegerField(default=0)
    head_hash = models.CharField(max_length=71, default="")
    head_version = models.SmallIntegerField(default=1)
    verified_at = models.DateTimeField(null=True, blank=True)
    rescan_seq = models.BigIntegerField(default=0)
    rescan_hash = models.CharField(max_length=71, default="")
    rescan_version = models.SmallIntegerField(default=1)
    rescanned_at = models.DateTimeField(null=True, blank=True)
    first_bad = models.BigIntegerField(null=True, blank=True)
    reason = models.TextField(default="", blank=True)
    broken_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = (models.CheckConstraint(condition=models.Q(id=1), name="audit_one_chain_state"),)

    def __str__(self) -> str:
        return f"verified up to {self.head_seq}" if self.first_bad is None else f"broken at {self.first_bad}"
