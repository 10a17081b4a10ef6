"""The description of the API: complete, valid, and served to whoever asks."""

from __future__ import annotations

import pytest
from django.core.management import call_command
from django.test import Client

pytestmark = pytest.mark.django_db


def test_the_document_validates_without_a_warning(tmp_path: object, capsys: pytest.CaptureFixture[str]) -> None:
    call_command(
        "spectacular",
        "--validate",
        "--fail-on-warn",
        "--urlconf",
        "controlplane.urls",
        "--format",
        "openapi-json",
        "--file",
        f"{tmp_path}/openapi.json",
    )
    assert capsys.readouterr().err == ""


def test_anybody_may_read_the_document() -> None:
    answer = Client().get("/api/v1/openapi.json")
    assert (answer.status_code, answer.json()["openapi"]) == (200, "3.1.0")
    assert "/api/v1/rollouts/{rollout_id}" in answer.json()["paths"]


def test_the_page_of_the_documentation_has_no_inline_script() -> None:
    answer = Client().get("/api/v1/docs")
    assert answer.status_code == 200
    assert "'unsafe-inline'" not in answer["Content-Security-Policy"].partition("script-src")[2].partition(";")[0]
    text = answer.content.decode()
    assert text.count("<script") == text.count("<script src=") == 2
