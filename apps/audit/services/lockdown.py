"""Taking the right to rewrite the log from the program that writes it.

With one database role for everything, whoever holds the program's password can switch the triggers off. Here the tables
belong to an owner who only migrates; the program signs in as another role, which may read and append and owns nothing.
"""

from __future__ import annotations

import re

from django.db import connection, transaction

from apps.kernel.errors import InvalidInput, PolicyRefused

APPEND_ONLY = ("audit_event", "audit_checkpoint", "audit_checkpointkey")
_OWNS = """
SELECT count(*) FROM (
    SELECT relowner FROM pg_class UNION ALL SELECT proowner FROM pg_proc UNION ALL SELECT datdba FROM pg_database
    UNION ALL SELECT nspowner FROM pg_namespace UNION ALL SELECT typowner FROM pg_type
) AS owned (owner) JOIN pg_roles r ON r.oid = owned.owner WHERE r.rolname = %s
"""
_ROLE = re.compile(r"[a-z_][a-z0-9_]{0,62}")


def lockdown_statements(app_role: str, owner_role: str, *, has_app_role: bool, owns_something: bool) -> list[str]:
    """The SQL, in order. Raises InvalidInput for a name that is no plain role name."""
    for pointer, name in (("/app_role", app_role), ("/owner_role", owner_role)):
        if not _ROLE.fullmatch(name):
            raise InvalidInput.at(pointer, "bad_role", f"{name!r} is no plain role name: a to z, 0 to 9 and _.")
    if app_role == owner_role:
        raise InvalidInput.at("/app_role", "same_role", "The program's role and the tables' owner must be two roles.")
    app, owner = (connection.ops.quote_name(name) for name in (app_role, owner_role))
    database = connection.ops.quote_name(str(connection.settings_dict["NAME"]))
    log = ", ".join(APPEND_ONLY)
    return [
        *([] if has_app_role else [f"CREATE ROLE {app} LOGIN NOINHERIT"]),
        f"ALTER ROLE {app} NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS",
        *([f"REASSIGN OWNED BY {app} TO {owner}"] if owns_something else []),
        f"REVOKE ALL ON DATABASE {database} FROM {app}",
        f"GRANT CONNECT, TEMPORARY ON DATABASE {database} TO {app}",
        f"REVOKE CREATE ON SCHEMA public FROM PUBLIC, {app}",
        f"GRANT USAGE ON SCHEMA public TO {app}",
        f"REVOKE ALL ON ALL TABLES IN SCHEMA public FROM {app}",
        f"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {app}",
        f"GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {app}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public"
        f" GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {app}",
        f"ALTER DEFAULT PRIVILEGES FOR ROLE {owner} IN SCHEMA public GRANT USAGE, SELECT ON SEQUENCES TO {app}",
        f"REVOKE UPDATE, DELETE ON {log} FROM {app}",
        f"REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM {app}",
    ]


def lockdown_apply(*, app_role: str, owner_role: str = "", is_dry_run: bool = False) -> list[str]:
    """Carry the statements out in one transaction, check the result, return them. Needs a superuser, or an owner who
    may create roles. Raises InvalidInput, and PolicyRefused when the role could still rewrite the log: then nothing
    was changed."""
    owner = owner_role or _present_owner(app_role)
    statements = lockdown_statements(
        app_role,
        owner,
        has_app_role=bool(_one("SELECT count(*) FROM pg_roles WHERE rolname = %s", app_role)),
        owns_something=bool(_one(_OWNS, app_role)),
    )
    if not is_dry_run:
        with transaction.atomic():
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
            holes = lockdown_holes(app_role)
            if holes:
                raise PolicyRefused("not_locked_down", f"{app_role} could still rewrite the log: {'; '.join(holes)}.")
    return statements


def lockdown_holes(app_role: str) -> list[str]:
    """What ``app_role`` could still do to the log, in words; empty when it is locked down. Raises InvalidInput."""
    if not _one("SELECT count(*) FROM pg_roles WHERE rolname = %s", app_role):
        raise InvalidInput.at("/app_role", "no_such_role", f"There is no database role {app_role}.")
    found = []
    if _one("SELECT rolsuper OR rolcreaterole OR rolreplication FROM pg_roles WHERE rolname = %s", app_role):
        found.append("it is a superuser, makes roles or replicates")
    if _one("SELECT has_schema_privilege(%s, 'public', 'CREATE')", app_role):
        found.append("it may create in the schema public")
    for table in APPEND_ONLY:
        rights = ("UPDATE", "DELETE", "TRUNCATE", "TRIGGER")
        found += [f"it has {right} on {table}" for right in rights if _may(app_role, table, right)]
        if _one("SELECT pg_has_role(%s, relowner, 'MEMBER') FROM pg_class WHERE oid = %s::regclass", app_role, table):
            found.append(f"it owns {table}, or is a member of its owner")
    # who owns a schema, or the database whose schema it is, may drop what others own in it
    if _one("SELECT pg_has_role(%s, nspowner, 'MEMBER') FROM pg_namespace WHERE nspname = 'public'", app_role):
        found.append("it owns the schema public, or the database")
    owns = "SELECT pg_has_role(%s, proowner, 'MEMBER') FROM pg_proc WHERE proname = %s"
    functions = ("audit_event_refuse", "audit_append")
    found += [f"it owns the function {function}" for function in functions if _one(owns, app_role, function)]
    return found


def _present_owner(app_role: str) -> str:
    """Who owns the log now, unless that is the program: then whoever runs this."""
    owner = str(_one("SELECT relowner::regrole::text FROM pg_class WHERE oid = 'audit_event'::regclass"))
    return str(_one("SELECT current_user")) if owner == app_role else owner


def _may(role: str, table: str, right: str) -> bool:
    return bool(_one("SELECT has_table_privilege(%s, %s, %s)", role, table, right))


def _one(query: str, *values: str) -> object:
    with connection.cursor() as cursor:
        cursor.execute(query, values)
        row = cursor.fetchone()
    return row[0] if row else None
