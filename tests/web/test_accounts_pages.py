"""Sign-in, sign-out, and the one-time link of a first run."""

from __future__ import annotations

from django.test import Client

from apps.accounts.models import User
from apps.accounts.services.setup import setup_token_make
from tests.cast import PASSWORD, make_user


def test_the_right_password_leads_to_where_one_wanted_to_go(db: None) -> None:
    make_user("alice")
    answer = Client().post("/sign-in", {"username": "alice", "password": PASSWORD, "next": "/rollouts/"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/rollouts/")


def test_nobody_is_sent_to_another_site(db: None) -> None:
    make_user("alice")
    answer = Client().post("/sign-in", {"username": "alice", "password": PASSWORD, "next": "https://evil.example/"})
    assert answer.headers["Location"] == "/"


def test_a_wrong_password_and_an_unknown_name_get_the_same_answer(db: None) -> None:
    make_user("alice")
    for name in ("alice", "nobody"):
        answer = Client().post("/sign-in", {"username": name, "password": "wrong"})
        assert answer.status_code == 403
        assert "Name or password is wrong." in answer.content.decode()


def test_signing_out_is_a_post_and_ends_the_session(db: None) -> None:
    client = Client()
    client.force_login(make_user("alice"))
    assert client.get("/sign-out").status_code == 405
    assert client.post("/sign-out").status_code == 302
    assert client.get("/").status_code == 302


def test_the_first_link_makes_the_first_account_once(db: None) -> None:
    path = f"/setup/{setup_token_make()}"
    client = Client()
    assert "Create the first account" in client.get(path).content.decode()
    given = {"username": "ada", "password": PASSWORD, "again": PASSWORD}
    assert client.post(path, given).headers["Location"] == "/"
    assert client.get("/").status_code == 200
    assert Client().get(path).status_code == 404
    assert User.objects.count() == 1


def test_faults_of_the_first_account_stand_at_their_fields(db: None) -> None:
    path = f"/setup/{setup_token_make()}"
    weak = Client().post(path, {"username": "ada", "password": "short", "again": "short"})
    assert weak.status_code == 422
    assert 'id="f-password"' in weak.content.decode()
    differing = Client().post(path, {"username": "ada", "password": PASSWORD, "again": "another"})
    assert 'id="f-again"' in differing.content.decode()
    assert not User.objects.exists()
