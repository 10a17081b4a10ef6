"""``manage.py setup_link``: the one link to open first."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from apps.accounts.services.setup import is_set_up, setup_token_make
from apps.accounts.services.signing import signing_key_ensure


class Command(BaseCommand):
    help = "Prints <base URL>/setup/<token> while there is no account (an older link dies), else the base URL."

    def handle(self, *args: Any, **options: Any) -> None:
        # The vault's file and the key set are there from the first start on: whoever backs up finds them.
        signing_key_ensure()
        base = settings.PILOTHOUSE_BASE_URL.rstrip("/")
        self.stdout.write(base if is_set_up() else f"{base}/setup/{setup_token_make()}")
