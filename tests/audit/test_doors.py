"""The log by API and by page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.db import connections
from django.test import AsyncClient, Client
from rest_framework.test import APIClient

from apps.accounts.domain.roles import Role
from apps.accounts.models import User
from apps.accounts.services.access import actor_of
from apps.accounts.services.tokens import token_make
from apps.audit.models import ChainState, Event
from apps.audit.services.verify import chain_verify
from cli.audit_verify import verify
from tests.audit.logs import ALICE, sign, tamper, write
from tests.cast import make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_keys(settings: Any, tmp_path: Path) -> None:
    settings.PILOTHOUSE_AUDIT_KEYS = str(tmp_path / "keys")
    settings.PILOTHOUSE_AUDIT_SINK = ""


def person(name: str, *roles: Role) -> User:
    return User.objects.filter(username=name).first() or make_user(name, frozenset(roles))


def page(*roles: Role) -> Client:
    client = Client()
    client.force_login(person("ada", *roles), backend="django.contrib.auth.backends.ModelBackend")
    return client


def api(*roles: Role) -> APIClient:
    user = person("ida", *roles)
    _, text = token_make(actor=actor_of(user), user=user, label="tests", roles=frozenset(roles))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


def seqs(client: APIClient, query: str) -> list[int]:
    answer = client.get(f"/api/v1/audit{query}")
    assert answer.status_code == 200, answer.content
    return [one["seq"] for one in answer.json()["items"]]


def test_filters_find_by_actor_verb_subject_time_and_request() -> None:
    write(3)
    client = api(Role.AUDITOR)  # making the key is entry 4
    assert seqs(client, "") == [4, 3, 2, 1]
    assert seqs(client, "?actor=user:1 alice") == [3, 2, 1]
    assert seqs(client, f"?actor={ALICE.label}") == [3, 2, 1]
    assert seqs(client, "?verb=token.created") == seqs(client, "?verb=token.") == [4]
    assert seqs(client, "?subject=model:mo_1") == [2]
    assert seqs(client, "?subject=model:") == [3, 2, 1]
    assert seqs(client, "?request_id=request-1") == [3, 2, 1]
    at = Event.objects.get(seq=2).at.isoformat().replace("+00:00", "Z")
    assert seqs(client, f"?since={at}&request_id=request-1") == [3, 2]
    assert seqs(client, f"?until={at}") == [1]
    assert client.get("/api/v1/audit?sinse=x").status_code == 422
    assert client.get("/api/v1/audit?since=yesterday").status_code == 422


def test_pages_of_the_api_neither_repeat_nor_lose_an_entry() -> None:
    write(7)
    client = api(Role.AUDITOR)
    found, cursor = [], ""
    while cursor is not None:
        answer = client.get(f"/api/v1/audit?limit=3{f'&cursor={cursor}' if cursor else ''}").json()
        found += [one["seq"] for one in answer["items"]]
        cursor = answer["next_cursor"]
        write(1)  # newer entries appear meanwhile
    assert found == [8, 7, 6, 5, 4, 3, 2, 1]


def test_one_entry_the_chain_the_checkpoints_and_the_keys_are_answered() -> None:
    write(2)
    sign()
    client = api(Role.ADMIN)
    assert client.get("/api/v1/audit/2").json()["actor"]["chain"] == list(ALICE.chain)
    assert client.get("/api/v1/audit/99").status_code == client.get("/api/v1/audit/x").status_code == 404
    chain = client.get("/api/v1/audit/verify").json()
    assert (chain["state"], chain["verified_seq"], chain["first_bad"]) == ("intact", 2, None)
    (checkpoint,) = client.get("/api/v1/audit/checkpoints").json()["items"]
    assert (checkpoint["seq"], checkpoint["delivery"]) == (2, None)
    keys = APIClient().get("/api/v1/audit/keys").json()["keys"]  # open to everybody
    assert [one["key_id"] for one in keys] == [checkpoint["key_id"]]


@pytest.mark.parametrize("role", [Role.VIEWER, Role.ENGINEER, Role.APPROVER, Role.OPERATOR])
def test_the_log_is_for_those_whose_job_it_is(role: Role) -> None:
    client = api(role)
    for path in ("audit", "audit/1", "audit/verify", "audit/checkpoints", "audit/export"):
        assert client.get(f"/api/v1/{path}").status_code == 403, path
    assert page(role).get("/audit/").status_code == 403
    assert Client().get("/audit/").status_code == 302


def test_an_export_streams_verifies_and_is_an_entry_itself(tmp_path: Path) -> None:
    write(3)
    sign()
    answer = api(Role.AUDITOR).get("/api/v1/audit/export")
    assert (answer.status_code, answer.streaming, answer["Content-Type"]) == (200, True, "application/x-ndjson")
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"".join(answer.streaming_content))
    report = verify(path)
    assert (report.first_bad, report.last_seq, report.signed_seq) == (None, Event.objects.count(), 3)
    assert Event.objects.order_by("-seq").first().verb == "audit.exported"  # type: ignore[union-attr]
    part = b"".join(api(Role.AUDITOR).get("/api/v1/audit/export?verb=alias.moved").streaming_content)
    path.write_bytes(part)
    assert json.loads(part.splitlines()[0])["is_whole"] is False
    assert verify(path, is_partial=True).entries == 3


@pytest.mark.django_db(transaction=True)
async def test_an_export_streams_under_asgi_too(tmp_path: Path) -> None:
    from asgiref.sync import sync_to_async

    def prepare() -> str:
        write(2500)
        user = person("ida", Role.AUDITOR)
        return token_make(actor=actor_of(user), user=user, label="tests", roles=frozenset({Role.AUDITOR}))[1]

    text = await sync_to_async(prepare)()
    answer = await AsyncClient().get("/api/v1/audit/export", headers={"Authorization": f"Bearer {text}"})
    path = tmp_path / "export.jsonl"
    path.write_bytes(b"".join([piece async for piece in answer.streaming_content]))
    await sync_to_async(connections.close_all)()  # the thread that served it would keep the test database busy
    assert verify(path).entries == 2502


def test_the_page_shows_entries_filters_in_the_address_and_the_badge() -> None:
    write(60, {"before": {"alias": "1.0.0"}, "after": {"alias": "<b>1.1.0</b>"}})
    sign()
    client = page(Role.AUDITOR)
    text = client.get("/audit/?verb=alias.&actor=user:1 alice").content.decode()
    for part in ("chain intact", "Last signed: entry", "ci:acme/fraud run 912", "&lt;b&gt;1.1.0", "Older entries"):
        assert part in text
    assert "before=11" in text
    assert 'href="/api/v1/audit/export?actor=user%3A1+alice&amp;verb=alias."' in text
    assert "Older entries" not in client.get("/audit/?before=11").content.decode()
    assert "No entry matches" in client.get("/audit/?subject=nothing").content.decode()
    wrong = client.get("/audit/?since=yesterday").content.decode()
    assert "Write it like 2026-03-01" in wrong


def test_the_page_of_an_entry_shows_the_difference_and_the_authority() -> None:
    write(2, {"before": {"alias": "1.0.0", "gone": 1}, "after": {"alias": "1.1.0"}, "reason": "as planned"})
    sign()
    text = page(Role.ADMIN).get("/audit/1/").content.decode()
    for part in ("<del>1.0.0</del>", "<ins>1.1.0</ins>", "removed", "key:Ab12 nightly", "as planned", "checkpoint 1"):
        assert part in text
    assert page(Role.ADMIN).get("/audit/99/").status_code == 404


def test_a_broken_chain_is_a_red_banner_that_names_the_first_bad_entry() -> None:
    write(4)
    chain_verify()
    tamper("UPDATE audit_event SET actor_label = 'mallory' WHERE seq = 3")
    chain_verify()
    assert ChainState.objects.get().first_bad == 3
    for path in ("/audit/", "/audit/1/"):
        text = page(Role.ADMIN).get(path).content.decode()
        assert 'role="alert"' in text
        assert '<a class="mono" href="/audit/3/">3</a>' in text
    assert api(Role.ADMIN).get("/api/v1/audit/verify").json()["state"] == "broken"


def test_somebody_who_may_read_but_not_export_sees_who_may() -> None:
    text = page(Role.ADMIN).get("/audit/").content.decode()
    assert '<button disabled title="An auditor can export the log">' in text
