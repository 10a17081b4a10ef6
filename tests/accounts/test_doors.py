"""Every door asks who is there; a door that forgot to ask cannot be opened, or is found."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.test import Client
from django.urls import get_resolver
from rest_framework.test import APIClient

from apps.accounts.domain.roles import Role
from apps.accounts.services.access import actor_of
from apps.accounts.services.tokens import token_make, token_revoke
from apps.accounts.web_access import declares, undeclared_doors
from apps.kernel.actor import SYSTEM
from apps.kernel.errors import Forbidden
from tests.cast import PASSWORD, make_user

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.doorways")]


def as_(name: str) -> APIClient:
    """Signed in with a session, without Django's own test shortcut around CSRF."""
    client = APIClient(enforce_csrf_checks=True)
    make_user(name)
    assert client.login(username=name, password=PASSWORD)
    return client


def with_key(name: str, *roles: Role) -> tuple[APIClient, str]:
    user = make_user(name)
    token, text = token_make(actor=actor_of(user), user=user, label="ci", roles=frozenset(roles))
    return APIClient(enforce_csrf_checks=True, headers={"Authorization": f"Bearer {text}"}), token.id


def test_nobody_gets_401_and_is_told_how_to_come_in() -> None:
    answer = APIClient().get("/api/fleet")
    assert (answer.status_code, answer["Content-Type"]) == (401, "application/problem+json")
    assert answer["WWW-Authenticate"] == 'Bearer realm="pilothouse"'
    assert "Bearer plh_" in answer.json()["detail"]


def test_a_key_acts_as_itself() -> None:
    client, _ = with_key("alice", Role.OPERATOR)
    assert client.get("/api/fleet").json() == {"actor": "ci (key of alice)", "kind": "key"}


def test_a_key_needs_no_csrf_token_and_stays_within_its_scopes() -> None:
    operator, _ = with_key("alice", Role.OPERATOR)
    answer = operator.post("/api/by-method")
    assert answer.status_code == 403
    assert answer.json()["roles"] == ["engineer"]
    assert operator.get("/api/by-method").status_code == 200


def test_a_wrong_key_is_401_even_beside_a_valid_session() -> None:
    client = as_("alice")
    assert client.get("/api/fleet").status_code == 200
    answer = client.get("/api/fleet", headers={"Authorization": "Bearer plh_wrong"})
    assert answer.status_code == 401
    assert answer.json()["detail"] == "This API key is not valid."


def test_a_revoked_key_is_401_at_once() -> None:
    client, token_id = with_key("alice", Role.ENGINEER)
    assert client.post("/api/by-method").status_code == 201
    token_revoke(actor=SYSTEM, token_id=token_id)
    assert client.post("/api/by-method").status_code == 401


def test_a_session_cannot_write_without_the_csrf_token() -> None:
    client = as_("alice")
    answer = client.post("/api/by-method")
    assert answer.status_code == 403
    assert "CSRF" in answer.json()["detail"]


def test_a_session_with_the_csrf_token_can_write() -> None:
    client = as_("alice")
    client.cookies["csrftoken"] = "a" * 32
    assert client.post("/api/by-method", headers={"X-CSRFToken": "a" * 32}).status_code == 201


def test_the_wrong_role_gets_403_with_the_roles_that_can() -> None:
    answer = as_("mallory").get("/api/fleet")
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "viewer" in answer.json()["roles"]


@pytest.mark.parametrize("route", ["/api/undeclared", "/api/misspelt"])
def test_an_api_view_without_a_known_action_cannot_be_called_by_anybody(route: str) -> None:
    client = as_("alice")
    with pytest.raises(ImproperlyConfigured):
        client.get(route)


def test_a_method_that_the_view_forgot_to_declare_cannot_be_called() -> None:
    client, _ = with_key("alice", Role.ENGINEER)
    assert client.get("/api/half").status_code == 200
    with pytest.raises(ImproperlyConfigured, match="POST"):
        client.post("/api/half")


def test_a_method_that_the_view_does_not_have_is_405() -> None:
    client, _ = with_key("alice", Role.ENGINEER)
    assert client.delete("/api/by-method").status_code == 405
    assert client.head("/api/by-method").status_code == 200


def test_public_is_open_and_signed_in_needs_no_role() -> None:
    assert APIClient().get("/api/open").status_code == 200
    assert APIClient().get("/api/me").status_code == 401
    assert as_("mallory").get("/api/me").json()["actor"] == "mallory"


def test_a_page_sends_the_anonymous_to_sign_in_and_back() -> None:
    answer = Client().get("/page?a=1")
    assert (answer.status_code, answer["Location"]) == (302, "/sign-in?next=/page%3Fa%3D1")
    assert Client().post("/form")["Location"] == "/sign-in"


def test_a_fragment_sends_the_whole_page_to_sign_in() -> None:
    here = {"HX-Request": "true", "HX-Current-URL": "https://testserver/endpoints/x?range=1h"}
    answer = Client().get("/page", headers=here)
    assert answer["HX-Redirect"] == "/sign-in?next=/endpoints/x%3Frange%3D1h"


def test_a_page_knows_the_actor_and_refuses_the_wrong_role(rf: Any) -> None:
    assert as_("bob").get("/page").content == b"bob"
    from tests.accounts.doorways import form

    request = rf.post("/form")
    request.user = make_user("olga")
    with pytest.raises(Forbidden, match="engineer"):
        form(request)


def test_a_page_answers_only_the_methods_it_declares() -> None:
    client = as_("alice")
    assert client.head("/form").status_code == 200
    client.handler.enforce_csrf_checks = False  # the method is what is asked here
    answer = client.put("/form")
    assert (answer.status_code, answer["Allow"]) == (405, "GET, POST")


def test_declaring_an_action_that_no_table_knows_fails_at_import() -> None:
    with pytest.raises(ValueError, match=r"fleet\.raed"):
        declares("fleet.raed")


def test_the_walk_finds_the_forgotten_doors_and_only_them() -> None:
    found = undeclared_doors(get_resolver("tests.accounts.doorways").url_patterns)
    assert found == ["/api/undeclared", "/forgotten"]
