"""``manage.py signing_key_rotate``: a new key signs our tokens; the one before verifies until its last has expired."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand

from apps.accounts.services.signing import signing_key_rotate


class Command(BaseCommand):
    help = "Makes a new signing key and prints its id. It also happens by itself every 30 days."

    def handle(self, *args: Any, **options: Any) -> None:
        self.stdout.write(signing_key_rotate().kid)
