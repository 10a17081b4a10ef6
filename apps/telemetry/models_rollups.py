"""What slots and roll-ups are sums of; roll-ups, and how far each endpoint's have come."""

from __future__ import annotations

from typing import ClassVar

from django.db import models
from django.db.models.functions import Now


class Summed(models.Model):
    """A sum of requests from ``slot_at`` on. ``indexes``/``counts`` are the histogram's two blobs.

    ``latency_ns`` is the sum of latencies in whole nanoseconds, so that adding in any order gives the same bits.
    """

    id = models.BigAutoField(primary_key=True)
    endpoint = models.CharField(max_length=80)
    variant = models.CharField(max_length=63)
    route = models.CharField(max_length=8)
    period = models.PositiveIntegerField()
    slot_at = models.PositiveBigIntegerField()
    total = models.PositiveBigIntegerField(default=0)
    good = models.PositiveBigIntegerField(default=0)
    client_4xx = models.PositiveBigIntegerField(default=0)
    model_error = models.PositiveBigIntegerField(default=0)
    timeout = models.PositiveBigIntegerField(default=0)
    other_5xx = models.PositiveBigIntegerField(default=0)
    zero = models.PositiveBigIntegerField(default=0)
    indexes = models.BinaryField(default=b"")
    counts = models.BinaryField(default=b"")
    latency_ns = models.PositiveBigIntegerField(default=0)
    latency_min = models.FloatField(null=True)
    latency_max = models.FloatField(null=True)
    updated_at = models.DateTimeField(db_default=Now())

    class Meta:
        abstract = True


class RollUp(Summed):
    """The sum of every slot of one window of ``resolution`` seconds.

    ``late``: how many reports were added after the window was rolled up.
    """

    resolution = models.PositiveIntegerField()
    late = models.PositiveIntegerField(default=0)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["endpoint", "resolution", "slot_at", "variant", "route", "period"], name="rollup_once"
            )
        ]
        indexes: ClassVar = [
            models.Index(fields=["endpoint", "resolution", "period", "variant", "slot_at"], name="rollup_by_period")
        ]

    def __str__(self) -> str:
        return f"{self.endpoint}/{self.variant}@{self.slot_at}+{self.resolution}"


class RollUpMark(models.Model):
    """How far an endpoint's roll-ups have come, in Unix seconds. Changed only under the endpoint's ingest lock.

    ``until_60``: every slot before it is in the windows of 60 s, and none after it is; so for each resolution.
    ``kept_10``: slots before it were deleted, after the windows of 60 s were seen to hold the same; so for each.
    ``fault`` says why roll-ups of this endpoint stand still, empty while they do not.
    """

    endpoint = models.CharField(primary_key=True, max_length=80)
    kept_10 = models.PositiveBigIntegerField(default=0)
    kept_60 = models.PositiveBigIntegerField(default=0)
    kept_600 = models.PositiveBigIntegerField(default=0)
    kept_3600 = models.PositiveBigIntegerField(default=0)
    kept_86400 = models.PositiveBigIntegerField(default=0)
    until_60 = models.PositiveBigIntegerField(default=0)
    until_600 = models.PositiveBigIntegerField(default=0)
    until_3600 = models.PositiveBigIntegerField(default=0)
    until_86400 = models.PositiveBigIntegerField(default=0)
    due_at = models.DateTimeField(db_default=Now())
    fault = models.TextField(default="", blank=True)

    class Meta:
        indexes: ClassVar = [models.Index(fields=["due_at"], name="rollup_due")]

    def __str__(self) -> str:
        return self.endpoint

    def kept(self, level: int) -> int:
        """The first second of this resolution that is still stored."""
        return int(getattr(self, f"kept_{level}"))

    def until(self, level: int) -> int:
        """The first second that is not yet rolled up to this resolution."""
        return int(getattr(self, f"until_{level}"))
