"""Work on one experiment that only one worker may do at a time, kinds apart. Held until the transaction ends."""

from __future__ import annotations

from enum import IntEnum

from django.db import connection

from apps.experiments.models import Experiment


class Work(IntEnum):
    """The number of its lock, in the database: of two programs with different numbers none would wait."""

    CELLS = 23
    MEASURED = 29
    LOOK = 31


def work_lock(experiment: Experiment, work: Work) -> None:
    """Waits for whoever does ``work`` on it now; in the caller's transaction."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, %s))", [experiment.pk, work.value])
