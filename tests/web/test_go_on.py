"""A confirmation in the middle of a form: what was typed waits, secrets do not, and nothing is sent without a click."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from apps.accounts.models import ApiToken, User
from apps.kernel.clock import now
from tests.cast import PASSWORD, make_user

pytestmark = pytest.mark.django_db
WANTED = {"label": "nightly", "roles": ["engineer", "operator"], "days": "30"}
GO_ON = "/account/go-on"


@pytest.fixture(autouse=True)
def _no_memory() -> None:
    from django.core.cache import cache

    cache.clear()


@pytest.fixture
def alice() -> Client:
    """Signed in ten minutes ago, with every check of CSRF tokens."""
    make_user("alice")
    client = Client(enforce_csrf_checks=True)
    client.get("/sign-in")
    assert post(client, "/sign-in", {"username": "alice", "password": PASSWORD}).status_code == 302
    session = client.session
    session["signed_in_at"] = now().timestamp() - 600
    session["account_authentication_methods"] = [
        {**one, "at": one["at"] - 600} for one in session.get("account_authentication_methods", [])
    ]
    session.save()
    return client


def post(client: Client, path: str, data: dict[str, Any]) -> Any:
    """As the page's own form does it, with its token."""
    token = client.cookies["csrftoken"].value
    return client.post(path, {**data, "csrfmiddlewaretoken": token}, headers={"Referer": "http://testserver/account/"})


def test_what_was_typed_is_there_after_the_confirmation_and_is_sent_by_a_click(alice: Client) -> None:
    answer = post(alice, "/account/keys/", WANTED)
    assert answer.headers["Location"] == "/account/confirm/?next=%2Faccount%2Fgo-on"
    assert not ApiToken.objects.exists()
    assert "is kept" in alice.get(answer.headers["Location"]).content.decode()
    confirmed = post(alice, answer.headers["Location"], {"password": PASSWORD})
    assert confirmed.headers["Location"] == GO_ON
    page = alice.get(GO_ON).content.decode()
    assert "Nothing of it has been done yet" in page
    assert not ApiToken.objects.exists(), "coming back sends nothing"
    assert alice.get(GO_ON).status_code == 200, "loading it again loses nothing"
    form = page.split('class="card stack kept')[1]
    hidden = [
        (name, unescape(value)) for name, value in re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)
    ]
    assert sorted(row for row in hidden if row[0] != "csrfmiddlewaretoken") == [
        ("days", "30"), ("label", "nightly"), ("roles", "engineer"), ("roles", "operator")
    ]  # fmt: skip
    sent = {name: [value for key, value in hidden if key == name] for name, _ in hidden}
    assert alice.post("/account/keys/", sent, headers={"Referer": f"http://testserver{GO_ON}"}).status_code == 200
    assert ApiToken.objects.get().label == "nightly"
    assert alice.get(GO_ON).status_code == 302, "what was sent does not wait any more"


def test_the_page_behind_the_confirmation_asks_for_it_too(alice: Client) -> None:
    post(alice, "/account/keys/", WANTED)
    assert alice.get(GO_ON).headers["Location"] == "/account/confirm/?next=%2Faccount%2Fgo-on"


def test_a_form_without_its_token_is_neither_kept_nor_sent(alice: Client) -> None:
    assert alice.post("/account/keys/", WANTED, headers={"Referer": "http://testserver/account/"}).status_code == 403
    assert "form_kept" not in alice.session


@pytest.mark.parametrize(
    ("name", "value"),
    [("password", "x"), ("signing_secret", "x"), ("api_key", "x"), ("note", "plh_abc"), ("note", "eyJhbGciOi.x.y")],
)
def test_a_secret_is_not_kept_and_is_asked_for_again(alice: Client, name: str, value: str) -> None:
    post(alice, "/account/keys/", {**WANTED, name: value})
    kept = alice.session["form_kept"]
    assert name in kept["left_out"]
    assert value not in str(kept["fields"])
    assert "csrf" not in str(kept)
    post(alice, "/account/confirm/?next=/account/go-on", {"password": PASSWORD})
    assert f'type="password" id="again-1" name="{name}"' in alice.get(GO_ON).content.decode()


@pytest.mark.parametrize("wrong", ["file", "size", "count"])
def test_files_and_unusual_sizes_are_not_kept_and_lead_back_to_the_page(alice: Client, wrong: str) -> None:
    more: dict[str, Any] = {
        "file": {"extra": SimpleUploadedFile("x.txt", b"x")},
        "size": {"label": "x" * 70_000},
        "count": {"roles": ["engineer"] * 300},
    }[wrong]
    answer = post(alice, "/account/keys/", {**WANTED, **more})
    assert answer.headers["Location"] == "/account/confirm/?next=%2Faccount%2F"
    assert "form_kept" not in alice.session


def test_it_waits_for_ten_minutes_and_for_its_person_only(alice: Client) -> None:
    post(alice, "/account/keys/", WANTED)
    post(alice, "/account/confirm/?next=/account/go-on", {"password": PASSWORD})
    session = alice.session
    session["form_kept"]["user"] = str(User.objects.get(username="alice").pk + 1)
    session.save()
    assert alice.get(GO_ON).headers["Location"] == "/"
    session = alice.session
    assert "form_kept" not in session
    session["form_kept"] = {"at": now().timestamp() - 601, "user": str(User.objects.get(username="alice").pk)}
    session.save()
    assert alice.get(GO_ON).headers["Location"] == "/"


def test_a_page_elsewhere_is_no_way_back(alice: Client) -> None:
    post(alice, "/account/keys/", WANTED)
    session = alice.session
    session["form_kept"]["back"] = "//evil.example.com/"
    session.save()
    post(alice, "/account/confirm/?next=/account/go-on", {"password": PASSWORD})
    assert "evil" not in alice.get(GO_ON).content.decode()
