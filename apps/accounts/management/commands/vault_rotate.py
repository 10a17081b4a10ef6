"""``manage.py vault_rotate``: a new key for secrets at rest, and every secret sealed by it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand
from django.db import transaction

from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM
from apps.kernel.vault import vault_rotate


class Command(BaseCommand):
    help = "Makes a new key, seals every secret with it, says how many. Old keys stay in the ring for backups."

    def handle(self, *args: Any, **options: Any) -> None:
        count = vault_rotate()
        with transaction.atomic():
            event_record(
                actor=SYSTEM,
                verb="vault.rotated",
                subject_kind="vault",
                subject_id="vault",
                subject_label="vault",
                detail={"secrets": count},
            )
        self.stdout.write(f"{count} secrets sealed anew")
