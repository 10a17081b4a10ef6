"""The audit log: append-only, each entry carries the hash of the one before."""

from __future__ import annotations

from django.db import models


class Event(models.Model):
    """One act. A trigger refuses UPDATE, DELETE and TRUNCATE; actor and subject are text that outlives rows."""

    seq = models.BigIntegerField(primary_key=True)
    at = models.DateTimeField()
    actor_kind = models.CharField(max_length=16)
    actor_id = models.CharField(max_length=64)
    actor_label = models.CharField(max_length=200)
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
        indexes = (models.Index(fields=["subject_kind", "subject_id", "seq"], name="audit_by_subject"),)

    def __str__(self) -> str:
        return f"{self.seq} {self.verb} {self.subject_label}"
