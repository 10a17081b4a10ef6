"""The role that the program signs in with appends to the log and cannot rewrite it: a real role, a real connection."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import pytest
from django.apps import apps
from django.core.management import CommandError, call_command
from django.db import connection

from apps.audit.models import Event
from apps.audit.services.lockdown import APPEND_ONLY, lockdown_apply, lockdown_holes
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


# Tables of the audit app that the program does change: how far the log was sent and checked.
NOT_THE_LOG = {"audit_delivery", "audit_chainstate"}


def tables() -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row[0] for row in cursor.fetchall()}


def refusing() -> set[str]:
    """Tables whose trigger refuses every UPDATE and DELETE, by the name that such triggers have."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT tgrelid::regclass::text FROM pg_trigger WHERE tgname LIKE '%append_only'")
        return {row[0] for row in cursor.fetchall()}


def test_every_table_of_the_audit_app_is_part_of_the_log_or_named_as_something_else() -> None:
    """Fails for a new table until somebody has decided; so does a new append-only table of any app."""
    of_audit = {model._meta.db_table for model in apps.get_app_config("audit").get_models()}
    assert of_audit == set(APPEND_ONLY) | NOT_THE_LOG
    assert set(APPEND_ONLY) <= refusing()
    # Histories of other apps that refuse changes themselves: of aliases (goes with its model), of alerts.
    assert refusing() - set(APPEND_ONLY) == {"registry_aliasmove", "alerts_incidentchange"}


def test_the_locked_role_may_do_with_every_table_what_the_program_does(app_role: str) -> None:
    """Whatever the schema has grown to: the program can work on every table, and on the log it can only append."""
    call_command("audit_lockdown", app_role=app_role, verbosity=0)
    wanted = {name: {"SELECT", "INSERT", "UPDATE", "DELETE"} for name in tables()}
    wanted |= {name: {"SELECT", "INSERT"} for name in APPEND_ONLY} | {"django_migrations": {"SELECT"}}
    found: dict[str, set[str]] = {}
    rights = ("SELECT", "INSERT", "UPDATE", "DELETE", "TRUNCATE", "TRIGGER", "REFERENCES")
    with connection.cursor() as cursor:
        for name in wanted:
            cursor.execute(f"SELECT {', '.join(f'has_table_privilege(%s, %s, {right!r})' for right in rights)}",
                           [app_role, name] * len(rights))  # fmt: skip
            found[name] = {right for right, may in zip(rights, cursor.fetchone(), strict=True) if may}
        cursor.execute(
            "SELECT sequencename FROM pg_sequences WHERE schemaname = 'public'"
            " AND NOT has_sequence_privilege(%s, format('%%I.%%I', schemaname, sequencename), 'USAGE')", [app_role]
        )  # fmt: skip
        assert cursor.fetchall() == []
    assert found == wanted


def test_a_table_that_a_later_migration_makes_is_the_programs_too(app_role: str) -> None:
    call_command("audit_lockdown", app_role=app_role, verbosity=0)
    with connection.cursor() as cursor:
        cursor.execute("SELECT relowner::regrole::text FROM pg_class WHERE relname = 'audit_event'")
        owner = cursor.fetchone()[0]
        cursor.execute(f"SET ROLE {owner}")
        cursor.execute("CREATE TABLE grown_later (id bigserial PRIMARY KEY)")
        cursor.execute("RESET ROLE")
    try:
        with signed_in(app_role) as session:
            session.execute("INSERT INTO grown_later DEFAULT VALUES")
            session.execute("UPDATE grown_later SET id = 7")
            session.execute("DELETE FROM grown_later")
    finally:
        with connection.cursor() as cursor:
            cursor.execute("DROP TABLE grown_later")


def test_whoever_may_not_make_roles_is_told_whose_address_it_needs(app_role: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE ROLE nobody_special LOGIN PASSWORD 'x'")
    before = dict(connection.settings_dict)
    connection.close()
    connection.settings_dict.update(USER="nobody_special", PASSWORD="x")
    try:
        with pytest.raises(CommandError, match=r"nobody_special may not do this.*administrator"):
            call_command("audit_lockdown", app_role=app_role, verbosity=0)
    finally:
        connection.close()
        connection.settings_dict.update(before)
        with connection.cursor() as cursor:
            cursor.execute("DROP ROLE nobody_special")


def test_a_dry_run_changes_nothing(app_role: str) -> None:
    assert lockdown_apply(app_role=app_role, is_dry_run=True)
    with pytest.raises(InvalidInput, match="There is no database role"):
        lockdown_holes(app_role)


@pytest.mark.parametrize("name", ["x; DROP TABLE audit_event", "", "Über", '"x"'])
def test_a_name_that_is_no_plain_role_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput):
        lockdown_apply(app_role=name, is_dry_run=True)
