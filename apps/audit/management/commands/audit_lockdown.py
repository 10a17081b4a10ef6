"""``manage.py audit_lockdown --app-role pilothouse_app``: the program may append to the log, not rewrite it."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import ProgrammingError, connection

from apps.audit.services.lockdown import lockdown_apply, lockdown_holes
from apps.kernel.errors import DomainError


class Command(BaseCommand):
    help = "Take UPDATE, DELETE and ownership of the audit log from the role that the program signs in with."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--app-role", required=True, help="The role of DATABASE_URL; made where it is missing.")
        parser.add_argument("--owner-role", default="", help="Who owns the tables (default: who does now).")
        parser.add_argument("--dry-run", action="store_true", help="Print the statements, change nothing.")
        parser.add_argument("--check", action="store_true", help="Only say whether the role is locked down.")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            if options["check"]:
                self._check(options["app_role"])
                return
            statements = lockdown_apply(
                app_role=options["app_role"], owner_role=options["owner_role"], is_dry_run=options["dry_run"]
            )
        except DomainError as error:
            raise CommandError(error.detail) from error
        except ProgrammingError as error:
            raise CommandError(
                f"{connection.settings_dict['USER']} may not do this: {str(error).splitlines()[0]}. Run it with a "
                "DATABASE_URL of the database's administrator. Nothing was changed."
            ) from error
        self.stdout.write(";\n".join(statements) + ";")
        if not options["dry_run"]:
            self.stderr.write(f"{options['app_role']} can append to the audit log and not rewrite it.")

    def _check(self, app_role: str) -> None:
        holes = lockdown_holes(app_role)
        if holes:
            raise CommandError(f"{app_role} could rewrite the audit log: {'; '.join(holes)}.")
        self.stdout.write(f"{app_role} can append to the audit log and not rewrite it.")
