"""The account page: a key is shown once, does what its roles allow, and dies when it is revoked."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from apps.accounts.models import ApiToken
from tests.cast import make_user

pytestmark = pytest.mark.django_db


def alice() -> Client:
    client = Client()
    client.force_login(make_user("alice"))
    return client


def make(client: Client, **over: object) -> str:
    sent = {"label": "nightly CI", "roles": ["engineer"], "days": "30", **over}
    return client.post("/account/keys/", sent).content.decode()


def test_a_key_is_shown_once_works_in_the_api_and_dies_when_revoked() -> None:
    client = alice()
    text = re.search(r"plh_[A-Za-z0-9_]{30,}", make(client))
    assert text
    assert text[0] not in client.get("/account/").content.decode()
    bearer = {"Authorization": f"Bearer {text[0]}"}
    assert Client().get("/api/v1/me", headers=bearer).status_code == 200
    token = ApiToken.objects.get()
    assert client.post(f"/account/keys/{token.id}/revoke").status_code == 302
    assert "opens nothing any more" in client.get("/account/").content.decode()
    assert Client().get("/api/v1/me", headers=bearer).status_code == 401


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"label": " "}, "1 to 80 characters"),
        ({"roles": []}, "choose at least one"),
        ({"roles": ["auditor"]}, "roles that its maker lacks"),
        ({"days": "4000"}, "30 days"),
    ],
)
def test_a_key_that_cannot_be_is_refused_beside_its_field(over: dict[str, object], words: str) -> None:
    assert words in make(alice(), **over)
    assert not ApiToken.objects.exists()


def test_somebody_elses_key_cannot_be_revoked_without_the_right() -> None:
    make(alice())
    bob = Client()
    bob.force_login(make_user("bob"))
    assert bob.post(f"/account/keys/{ApiToken.objects.get().id}/revoke").status_code == 403
    assert ApiToken.objects.get().revoked_at is None


def test_nobody_sees_the_page_without_signing_in() -> None:
    assert Client().get("/account/").status_code == 302
