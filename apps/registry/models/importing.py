"""Imports from another registry: the job, how far it is, and which models are its own."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now

from apps.kernel.ids import new_id
from apps.kernel.orm import one_of
from apps.registry.domain.importing import ImportState
from apps.registry.models.catalogue import Model


def import_id() -> str:
    return new_id("im")


class ImportJob(models.Model):
    """One MLflow server to copy from.

    ``cursor`` names the page that is being worked on; a worker that was killed does that page again. ``counts`` are
    of the current or last run; ``skipped``
    is ``[{"model", "reason"}]``. ``credential`` is sealed and write-only. ``sync_seconds`` 0 means once.
    """

    id = models.CharField(primary_key=True, max_length=40, default=import_id)
    url = models.CharField(max_length=1000)
    username = models.CharField(max_length=200, default="", blank=True)
    credential = models.TextField(default="", blank=True)
    team_key = models.CharField(max_length=80, default="default")
    with_artifacts = models.BooleanField(default=False)
    sync_seconds = models.PositiveIntegerField(default=0)
    state = models.CharField(max_length=12, default=ImportState.WAITING)
    run = models.PositiveIntegerField(default=0)
    cursor = models.TextField(default="", blank=True)
    counts = models.JSONField(default=dict)
    skipped = models.JSONField(default=list)
    error = models.TextField(default="", blank=True)
    attempts = models.PositiveIntegerField(default=0)
    due_at = models.DateTimeField(db_default=Now())
    started_at = models.DateTimeField(null=True, blank=True)
    finished_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(db_default=Now())
    created_by = models.CharField(max_length=200)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["url"], name="import_url_once"),
            one_of("state", ImportState, "import_state_known"),
        ]
        indexes: ClassVar = [models.Index(fields=["due_at"], name="import_due")]

    def __str__(self) -> str:
        return self.url


class ImportedModel(models.Model):
    """A model that a job made and keeps in step; models made here are never touched by an import.

    ``files_due_at`` is null unless its versions' files are being brought, then when that is looked at again at the
    latest. ``files_left`` is ``{"number": "where its server says that the files lie"}`` of what was tried in vain.
    """

    job = models.ForeignKey(ImportJob, on_delete=models.PROTECT, related_name="models")
    model = models.OneToOneField(Model, on_delete=models.PROTECT, related_name="imported")
    remote_name = models.CharField(max_length=256)
    files_due_at = models.DateTimeField(null=True, blank=True)
    files_attempts = models.PositiveIntegerField(default=0)
    files_left = models.JSONField(default=dict)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["job", "remote_name"], name="imported_model_once")]
        indexes: ClassVar = [
            models.Index(
                fields=["files_due_at"], condition=models.Q(files_due_at__isnull=False), name="imported_files_due"
            )
        ]

    def __str__(self) -> str:
        return self.remote_name
