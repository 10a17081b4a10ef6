"""The role that the program signs in with appends to the log and cannot rewrite it: a real role, a real connection."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from apps.audit.models import Event
from apps.audit.services.lockdown import lockdown_apply, lockdown_holes
from apps.kernel.errors import InvalidInput
from embedded.postgres import ADMIN, Postgres
from tests.audit.logs import write
from tests.conftest_services import shared_home

# Needs a server of ours: of one that PILOTHOUSE_TEST_DATABASE_URL names, the administrator is not known here.
pytestmark = pytest.mark.django_db(transaction=True)

APPEND = (
    "SELECT audit_append(2::smallint, now(), 'user', '1', 'alice', '[]'::jsonb, 'model.created', 'model', 'mo_1', 'm',"
    " '{}'::jsonb, '', 'sha256:' || repeat('0', 64))"
)
REWRITES = (
    "UPDATE audit_event SET actor_label = 'x'",
    "DELETE FROM audit_event",
    "TRUNCATE audit_event",
    "TRUNCATE audit_checkpoint",
    "ALTER TABLE audit_event DISABLE TRIGGER ALL",
    "ALTER TABLE audit_event DISABLE TRIGGER audit_event_append_only",
    "DROP TRIGGER audit_event_append_only ON audit_event",
    "DROP TABLE audit_event CASCADE",
    "ALTER TABLE audit_event RENAME TO somewhere_else",
    "CREATE TABLE public.audit_event_2 (LIKE audit_event)",
    "CREATE OR REPLACE FUNCTION audit_event_refuse() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "SET session_replication_role = replica",
    "UPDATE audit_checkpoint SET seq = 1",
    "DELETE FROM audit_checkpointkey",
    "DELETE FROM django_migrations",
)


PASSWORD = secrets.token_urlsafe(12)


@pytest.fixture
def as_admin() -> Iterator[None]:
    """The product's role may not make roles, so the command is run by whoever may, as an operator would."""
    before = dict(connection.settings_dict)
    admin = Postgres(shared_home())._admin()
    password = admin.info.password
    admin.close()
    connection.close()
    connection.settings_dict.update(USER=ADMIN, PASSWORD=password)
    yield
    connection.close()
    connection.settings_dict.update(before)


@pytest.fixture
def app_role(as_admin: None) -> Iterator[str]:
    name = f"app_{secrets.token_hex(4)}"
    yield name
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [name])
        if cursor.fetchone():
            cursor.execute(f"DROP OWNED BY {name}")
            cursor.execute(f"DROP ROLE {name}")


def signed_in(role: str) -> psycopg.Connection[tuple[object, ...]]:
    asked = connection.get_connection_params()
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
    where = {name: asked[name] for name in ("host", "port", "dbname") if asked.get(name)}
    return psycopg.connect(user=role, password=PASSWORD, autocommit=True, **where)


def test_the_locked_role_appends_and_works_and_cannot_rewrite(app_role: str) -> None:
    write(2)
    call_command("audit_lockdown", app_role=app_role, verbosity=0)
    with signed_in(app_role) as session:
        session.execute(APPEND)
        session.execute(
            "INSERT INTO kernel_outboxentry (topic, name, payload, attempts, last_error) VALUES ('x', 'x', '{}', 0, '')"
        )
        session.execute("UPDATE kernel_outboxentry SET name = 'y'")
        session.execute("DELETE FROM kernel_outboxentry")
        for statement in REWRITES:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                session.execute(statement)
    assert list(Event.objects.values_list("seq", flat=True)) == [1, 2, 3]
    call_command("audit_lockdown", app_role=app_role, check=True, verbosity=0)


def test_a_role_that_owned_everything_owns_nothing_afterwards(app_role: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {app_role} LOGIN")
        cursor.execute("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'audit_event'")
        owner = cursor.fetchone()[0]
        cursor.execute(f"ALTER TABLE audit_event OWNER TO {app_role}")
        assert "it owns audit_event, or is a member of its owner" in lockdown_holes(app_role)
        with pytest.raises(CommandError, match="could rewrite"):
            call_command("audit_lockdown", app_role=app_role, check=True, verbosity=0)
        call_command("audit_lockdown", app_role=app_role, owner_role=owner, verbosity=0)
        cursor.execute("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'audit_event'")
        assert cursor.fetchone()[0] == owner
    assert lockdown_holes(app_role) == []


def test_a_dry_run_changes_nothing(app_role: str) -> None:
    assert lockdown_apply(app_role=app_role, is_dry_run=True)
    with pytest.raises(InvalidInput, match="There is no database role"):
        lockdown_holes(app_role)


@pytest.mark.parametrize("name", ["x; DROP TABLE audit_event", "", "Über", '"x"'])
def test_a_name_that_is_no_plain_role_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        lockdown_apply(app_role=name, is_dry_run=True)
