"""Doors of /api/v1: every one declares what it needs. Who gets what is in test_matrix.py."""

from __future__ import annotations

from typing import Any

import pytest

from apps.accounts.domain.doors import PUBLIC, SIGNED_IN
from apps.accounts.domain.roles import ALL_ACTIONS
from apps.accounts.web_access import undeclared_doors
from controlplane.api_urls import openapi, urlpatterns
from tests.api.conftest import Caller
from tests.api.world import World


def operations() -> list[tuple[str, str, str]]:
    """(operation id, method, path) of the document."""
    return sorted(
        (operation["operationId"], method, path)
        for path, item in openapi()["paths"].items()
        for method, operation in item.items()
        if method in {"get", "put", "post", "patch", "delete"}
    )


@pytest.mark.django_db
def test_a_person_without_roles_sees_only_themselves(world: World, caller: Caller, client: Any) -> None:
    from tests.cast import make_user

    client.force_login(make_user("mallory"))
    assert client.get("/api/v1/me").json()["actions"] == []
    assert client.get("/api/v1/models").status_code == 403


def test_every_door_declares_what_it_needs() -> None:
    assert undeclared_doors(urlpatterns) == []
    assert {PUBLIC, SIGNED_IN}.isdisjoint(ALL_ACTIONS)
