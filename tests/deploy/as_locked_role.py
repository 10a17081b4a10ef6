"""Runs the suite as the locked database role of the production setup (docs/concepts/audit.md).

    python -m pytest -p tests.deploy.as_locked_role tests/alerts tests/registry …

The tables belong to whoever made the test database; ``audit_lockdown`` makes a second role, and every connection of the
tests signs in as that one. Tests that end with TRUNCATE, or change the schema, are left out: that is the owner's work.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection
from pytest_django.plugin import DjangoDbBlocker

from apps.audit.services.lockdown import lockdown_apply, lockdown_holes
from embedded.postgres import ADMIN, Postgres
from tests.audit import flushable
from tests.conftest_services import shared_home

# Only tests that end with TRUNCATE need it, and only the owner may do it.
flushable.let_tests_flush = lambda database: None
ROLE = f"app_{secrets.token_hex(4)}"


@pytest.fixture(scope="session", autouse=True)
def _as_locked_role(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[None]:
    with django_db_blocker.unblock():
        before, password = dict(connection.settings_dict), secrets.token_urlsafe(12)
        admin = Postgres(shared_home())._admin()
        sign_in(ADMIN, admin.info.password)
        admin.close()
        lockdown_apply(app_role=ROLE)
        assert lockdown_holes(ROLE) == []
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER ROLE {ROLE} PASSWORD '{password}'")
        admin_password = str(connection.settings_dict["PASSWORD"])
        sign_in(ROLE, password)
    yield
    with django_db_blocker.unblock():
        sign_in(ADMIN, admin_password)
        with connection.cursor() as cursor:
            cursor.execute(f"DROP OWNED BY {ROLE}")
            cursor.execute(f"DROP ROLE {ROLE}")
        sign_in(str(before["USER"]), str(before["PASSWORD"]))


def sign_in(user: str, password: str) -> None:
    connection.close()
    connection.settings_dict.update(USER=user, PASSWORD=password)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: Any, items: list[Any]) -> None:
    """Leaves out what needs the owner: transactional tests."""
    kept = [item for item in items if not _is_transactional(item)]
    config.hook.pytest_deselected(items=[item for item in items if _is_transactional(item)])
    items[:] = kept


def _is_transactional(item: Any) -> bool:
    marks = [
        mark for mark in item.iter_markers("django_db") if mark.kwargs.get("transaction") or mark.args[:1] == (True,)
    ]
    names = set(getattr(item, "fixturenames", ()))
    return bool(marks) or bool({"transactional_db", "live_server", "django_db_serialized_rollback"} & names)
