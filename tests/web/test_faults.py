"""What never reached a view, or broke inside one, is still a page of the house: title, what is safe, request id."""

from __future__ import annotations

import logging

import pytest
from django.db import connections
from django.db.utils import OperationalError
from django.test import Client
from django.test.client import RequestFactory

from controlplane import faults, home
from tests.web.conftest import Browser

ID = {"X-Request-ID": "request-12345"}


def is_of_the_house(html: str) -> bool:
    return "css/tokens.css" in html and "Traffic stays as it was" in html and "request-12345" in html


def test_an_unknown_address_is_a_page_with_a_way_on(db: None, browser: Browser) -> None:
    for client in (browser("alice"), Client()):
        answer = client.get("/no/such/page", headers=ID)
        assert answer.status_code == 404
        assert "There is no such page" in answer.content.decode()
        assert is_of_the_house(answer.content.decode())


def test_a_wrong_host_is_told_the_setting(db: None) -> None:
    answer = Client().get("/", headers={**ID, "Host": "elsewhere.example"})
    assert answer.status_code == 400
    assert "PILOTHOUSE_ALLOWED_HOSTS" in answer.content.decode()
    assert is_of_the_house(answer.content.decode())


def test_a_form_without_its_token_changes_nothing_and_says_how_to_send_it_again(db: None) -> None:
    answer = Client(enforce_csrf_checks=True).post("/sign-in", {"username": "a"}, headers=ID)
    assert answer.status_code == 403
    assert "Nothing was changed" in answer.content.decode()
    assert is_of_the_house(answer.content.decode())


def test_a_fault_of_ours_is_a_page_that_asks_no_database(
    db: None, browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def gone(*_: object, **__: object) -> None:
        raise OperationalError("the database is gone")

    alice = browser("alice")
    alice.raise_request_exception = False
    with caplog.at_level(logging.CRITICAL, "django.request"), monkeypatch.context() as patched:
        # Every query fails, the session's included: as when PostgreSQL is down.
        patched.setattr(connections["default"], "cursor", gone)
        answer = alice.get("/", headers=ID)
    assert answer.status_code == 500
    assert "Something here is broken" in answer.content.decode()
    assert is_of_the_house(answer.content.decode())
    assert "database is gone" not in answer.content.decode(), "no internals"
    assert "script-src 'self'" in answer.headers["Content-Security-Policy"]


def test_when_the_page_of_the_fault_breaks_too_the_answer_is_bare_but_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> str:
        raise RuntimeError("no template either")

    monkeypatch.setattr(faults, "render_to_string", broken)
    request = RequestFactory().get("/")
    request.request_id = "request-12345"  # type: ignore[attr-defined]
    answer = faults.broken(request)
    assert answer.status_code == 500
    assert "request-12345" in answer.content.decode()
    assert "Traffic stays as it was" in answer.content.decode()


def test_a_broken_view_is_a_500_of_the_house(
    db: None, browser: Browser, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(home, "render", lambda *_: 1 / 0)
    alice = browser("alice")
    alice.raise_request_exception = False
    with caplog.at_level(logging.CRITICAL, "django.request"):
        answer = alice.get("/", headers=ID)
    assert answer.status_code == 500
    assert is_of_the_house(answer.content.decode())
