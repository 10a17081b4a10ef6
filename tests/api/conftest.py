"""Callers of the API: each of the cast by a real API key, over Django's own request handling and real PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from rest_framework.test import APIClient

from apps.accounts.domain.roles import Role
from apps.accounts.models import User
from apps.accounts.services.access import actor_of
from apps.accounts.services.tokens import token_make
from tests.api.world import World, make_world
from tests.audit.flushable import django_db_setup
from tests.cast import CAST, make_user

__all__ = ["django_db_setup"]

Caller = Callable[[str], "Api"]


class Api(APIClient):
    """Paths are below /api/v1; answers are (status, JSON)."""

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Any:
        extra: dict[str, Any] = {f"HTTP_{name.upper()}": value for name, value in headers.items()}
        data: Any = b"" if body is None else self._as_bytes(body)
        return self.generic(method.upper(), f"/api/v1/{path}", data, content_type="application/json", **extra)

    def _as_bytes(self, body: Any) -> bytes:
        return body if isinstance(body, bytes) else json.dumps(body).encode()


def key_of(name: str) -> str:
    """A new key of a person of the cast (the account is made where it is missing), with all their roles."""
    user = User.objects.filter(username=name).first() or make_user(name)
    roles = CAST[name] or frozenset({Role.VIEWER})
    if not CAST[name]:
        raise ValueError(f"{name} has no role, and a key without one cannot be made")
    _, text = token_make(actor=actor_of(user), user=user, label="tests", roles=roles)
    return text


@pytest.fixture
def caller(db: None) -> Caller:
    """``caller("alice")`` calls with a key of Alice's; ``caller("")`` with none."""

    def make(name: str) -> Api:
        api = Api()
        if name:
            api.credentials(HTTP_AUTHORIZATION=f"Bearer {key_of(name)}")
        return api

    return make


@pytest.fixture(autouse=True, scope="session")
def _static_folder() -> None:
    """WhiteNoise warns about a static folder that is not there, and warnings are errors."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def world(db: None, tmp_path: Path) -> World:
    return make_world(tmp_path)
