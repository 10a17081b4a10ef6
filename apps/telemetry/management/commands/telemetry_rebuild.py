"""``manage.py telemetry_rebuild``: make an endpoint's roll-ups anew from its slots."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.kernel.actor import SYSTEM
from apps.telemetry.services.rollups import rollups_rebuild


class Command(BaseCommand):
    help = "Drop an endpoint's roll-ups whose slots are still kept; workers make them anew. Use it after a fault."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("endpoint", help="The endpoint's name.")
        parser.add_argument("--reason", default="", help="Why, for the audit log.")

    def handle(self, *args: Any, **options: Any) -> None:
        name = options["endpoint"]
        if not rollups_rebuild(actor=SYSTEM, endpoint=name, reason=options["reason"]):
            raise CommandError(f"Nothing is rolled up of an endpoint named {name!r}; nothing was changed.")
        self.stdout.write(f"The roll-ups of {name} are made anew in a few minutes; charts read its slots meanwhile.")
