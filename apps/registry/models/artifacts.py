"""What was uploaded and not registered yet, and which formats may be registered."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now


class UploadArea(models.Model):
    """A place for uploads: its first writer owns it, and only versions that the same principal registers use it."""

    id = models.CharField(primary_key=True, max_length=80)
    owner_kind = models.CharField(max_length=16)
    owner_id = models.CharField(max_length=80)
    owner_label = models.CharField(max_length=200)
    file_count = models.PositiveIntegerField(default=0)
    size_bytes = models.BigIntegerField(default=0)
    created_at = models.DateTimeField(db_default=Now())
    touched_at = models.DateTimeField(db_default=Now())

    class Meta:
        indexes: ClassVar = [models.Index(fields=["touched_at"], name="upload_area_by_age")]

    def __str__(self) -> str:
        return self.id


class UploadedFile(models.Model):
    """One file of an area; its bytes are a blob of the artifact store."""

    area = models.ForeignKey(UploadArea, on_delete=models.CASCADE, related_name="files")
    path = models.CharField(max_length=1000)
    sha256 = models.CharField(max_length=64)
    size_bytes = models.BigIntegerField()
    uploaded_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["area", "path"], name="uploaded_path_once")]

    def __str__(self) -> str:
        return self.path


class FormatRule(models.Model):
    """Which formats a model's versions may have. The model's own rule counts, else its team's, else everybody's.

    ``scope`` is "model", "team" or "all"; ``scope_id`` a model's id, a team's key or "". ``allowed`` are formats beside
    the default ones (domain/formats.py); pickles need ``allow_pickle``.
    """

    scope = models.CharField(max_length=8)
    scope_id = models.CharField(max_length=80, default="", blank=True)
    allowed = models.JSONField(default=list)
    allow_pickle = models.BooleanField(default=False)
    reason = models.TextField(default="", blank=True)
    set_by = models.CharField(max_length=200)
    set_at = models.DateTimeField(db_default=Now())

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["scope", "scope_id"], name="format_rule_once"),
            models.CheckConstraint(
                condition=models.Q(scope__in=["model", "team", "all"]), name="format_rule_scope_known"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.scope}:{self.scope_id}"
