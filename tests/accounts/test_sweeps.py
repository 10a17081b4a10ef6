"""What must hold for every page at once: a form of another site changes nothing, and a GET never writes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import DatabaseError, connection, transaction
from django.test import Client
from django.urls import get_resolver

from apps.accounts.domain.roles import Role
from apps.accounts.web_access import _doors as doors
from tests.api.test_matrix_pages import PAGES, matrix, template
from tests.cast import make_user

__all__ = ["matrix"]

# allauth's own views stand under the same middleware; these begin without a session, so nothing is there to ride on.
OPEN = ("/^", "/api/", "/livez", "/readyz", "/metrics", "/favicon.ico", "/sso/")


@contextmanager
def only_reading() -> Iterator[None]:
    """PostgreSQL refuses every write inside; nothing of it stays."""
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL transaction_read_only = on")
        yield
        transaction.set_rollback(True)


def address_of(route: str) -> str:
    """An address that the route answers at; what it names need not exist, since nothing may look."""
    return re.sub(r"<\w+:\w+>", "1", template(route)).replace("{", "").replace("}", "")


def takes_post(view: Any) -> bool:
    declared = getattr(view, "action_required", None)
    return "POST" in declared if isinstance(declared, Mapping) else declared is not None


FORMS = sorted({route for route, view in doors(get_resolver("controlplane.urls").url_patterns, "/")
                if takes_post(view) and not route.startswith(OPEN)})  # fmt: skip


def test_there_is_something_to_sweep() -> None:
    assert {"/settings/webhooks/new/", "/people/new", "/account/keys/", "/sign-in", "/sign-out"} <= set(FORMS)
    assert len(FORMS) > 50


@pytest.mark.django_db
def test_a_form_of_another_site_is_refused_before_any_page_looks_at_it() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("eve", frozenset(Role)))
    answers = {route: client.post(address_of(route)).status_code for route in FORMS}
    assert {route: status for route, status in answers.items() if status != 403} == {}


@pytest.mark.django_db
def test_a_token_of_one_site_is_no_token_of_another() -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(make_user("eve", frozenset(Role)))
    client.get("/account/")
    form = {"csrfmiddlewaretoken": client.cookies["csrftoken"].value}
    for origin in ("https://evil.example", "http://testserver.evil.example", "null"):
        answer = client.post("/settings/webhooks/new/", form, headers={"Origin": origin})
        assert answer.status_code == 403, origin
    assert client.post("/settings/webhooks/new/", form, headers={"Origin": "http://testserver"}).status_code == 422


@pytest.mark.django_db
def test_looking_at_a_page_writes_nothing(matrix: Any) -> None:
    """A prefetch, a scanner or a link in a mail looks too. The database itself refuses writes meanwhile."""
    lookers = [
        one for one in matrix.people if one.reach == "all" and one.role in {"admin", "auditor"} and not one.is_key
    ]
    assert len(lookers) == 2
    faults = []
    for route in sorted(PAGES):
        address = template(route)
        for name, value in matrix.there("own").items():
            address = address.replace("{" + name + "}", value)
        for looking in lookers:
            try:
                with only_reading():
                    looking.client.get(address)
            except DatabaseError as error:
                faults.append(f"{address}: {str(error).splitlines()[0]}")
    assert not faults, "\n".join(faults)


@pytest.mark.django_db
def test_the_database_refuses_writes_while_the_sweep_looks() -> None:
    with pytest.raises(DatabaseError, match="read-only"), only_reading():
        make_user("somebody")
