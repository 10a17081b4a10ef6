"""``manage.py audit_keys``: the public keys of the checkpoints; ``--rotate`` signs with a new one from now on."""

from __future__ import annotations

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from apps.audit.selectors import key_document, key_list
from apps.audit.services.checkpoints import key_rotate
from apps.kernel.actor import SYSTEM
from apps.kernel.errors import DomainError


class Command(BaseCommand):
    help = "Print the public keys that checkpoints of the audit log were signed with."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--rotate", action="store_true", help="Sign with a new key from now on.")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["rotate"]:
            try:
                key_rotate(actor=SYSTEM)
            except DomainError as error:
                raise CommandError(error.detail) from error
        self.stdout.write(json.dumps({"keys": [key_document(key) for key in key_list()]}, indent=2))
