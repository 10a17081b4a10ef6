"""A repeated POST has one effect and one answer."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections
from rest_framework.test import APIClient

from apps.accounts.domain.roles import Role
from apps.accounts.models import IdempotencyRecord, SetupToken
from apps.accounts.services.access import actor_of
from apps.accounts.services.idempotency import KEPT, Answer, idempotency_sweep, idempotent_run
from apps.accounts.services.tokens import token_make
from apps.kernel.clock import now, set_clock
from apps.kernel.errors import Conflict
from tests.cast import make_user

pytestmark = [pytest.mark.django_db, pytest.mark.urls("tests.accounts.doorways")]


def client_of(name: str = "alice", roles: frozenset[Role] | None = None) -> APIClient:
    user = make_user(name, roles)
    text = token_make(actor=actor_of(user), user=user, label=name, roles=frozenset({Role.ENGINEER}))[1]
    return APIClient(headers={"Authorization": f"Bearer {text}"})


def post(client: APIClient, key: str | None = "k-1", query: str = "", **body: Any) -> Any:
    headers = {} if key is None else {"Idempotency-Key": key}
    return client.post(f"/api/things{query}", {"name": "one", **body}, headers=headers)


def test_the_same_call_twice_has_one_effect_and_the_same_answer() -> None:
    client = client_of()
    first, second = post(client), post(client)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert first["Location"] == second["Location"]
    assert "Idempotent-Replayed" not in first
    assert second["Idempotent-Replayed"] == "true"
    assert SetupToken.objects.count() == 1


def test_the_same_key_with_another_body_or_query_is_422() -> None:
    client = client_of()
    post(client)
    for again in (post(client, name="two"), post(client, query="?dry_run=true")):
        assert (again.status_code, again.json()["code"]) == (422, "idempotency_key_reused")
    assert SetupToken.objects.count() == 1


def test_keys_of_different_people_are_different_keys() -> None:
    alice, erin = client_of(), client_of("erin", frozenset({Role.ENGINEER}))
    assert post(alice).status_code == 201
    other = post(erin, name="two")
    assert other.status_code == 201
    assert "Idempotent-Replayed" not in other


def test_a_failed_call_stores_nothing_and_can_be_repeated() -> None:
    client = client_of()
    assert post(client, fail=True).status_code == 409
    assert not SetupToken.objects.exists()
    assert not IdempotencyRecord.objects.exists()
    assert post(client).status_code == 201


def test_without_a_key_a_failed_call_leaves_no_effect_either() -> None:
    client = client_of()
    assert post(client, key=None, fail=True).status_code == 409
    assert not SetupToken.objects.exists()
    assert post(client, key=None).status_code == 201


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb"])
def test_a_malformed_key_is_refused(key: str) -> None:
    answer = post(client_of(), key=key)
    assert (answer.status_code, answer.json()["code"]) == (422, "idempotency_key_malformed")
    assert not SetupToken.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_while_the_first_call_runs_a_second_is_409_and_afterwards_replayed() -> None:
    started, go_on = threading.Event(), threading.Event()
    call = {"principal": "user:1", "route": "POST /x", "key": "k", "request_body": {"a": 1}}

    def effect() -> Answer:
        SetupToken.objects.create(token_hash="one")
        started.set()
        assert go_on.wait(60)
        return Answer(201, {"made": 1})

    def first() -> None:
        try:
            idempotent_run(**call, effect=effect)  # type: ignore[arg-type]
        finally:
            connections.close_all()

    thread = threading.Thread(target=first)
    thread.start()
    try:
        assert started.wait(60)
        with pytest.raises(Conflict) as refused:
            idempotent_run(**call, effect=lambda: Answer(500, None))  # type: ignore[arg-type]
        assert refused.value.code == "idempotency_in_flight"
        assert refused.value.is_retryable
    finally:
        go_on.set()
        thread.join(60)
    replay = idempotent_run(**call, effect=lambda: Answer(500, None))  # type: ignore[arg-type]
    assert (replay.status, replay.body, replay.is_replayed) == (201, {"made": 1}, True)
    assert SetupToken.objects.count() == 1


def test_answers_are_forgotten_after_their_time() -> None:
    client = client_of()
    post(client)
    assert idempotency_sweep() == 0
    late = now() + KEPT + timedelta(seconds=1)
    with set_clock(lambda: late):
        assert idempotency_sweep() == 1
