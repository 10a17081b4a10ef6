"""Reviews by page and by API."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils.timezone import now
from rest_framework.test import APIClient

from apps.accounts.domain.roles import Role
from apps.accounts.models import User
from apps.accounts.services.access import actor_of
from apps.accounts.services.tokens import token_make
from apps.kernel.actor import Actor
from apps.reviews.models import Decision, Review
from apps.reviews.web.evidence import blocks_of
from tests.cast import make_actor
from tests.reviews.questions import EVIDENCE, approver, ask, decide

pytestmark = pytest.mark.django_db


def page_of(actor: Actor) -> Client:
    client = Client()
    client.force_login(User.objects.get(pk=actor.id), backend="django.contrib.auth.backends.ModelBackend")
    return client


def key_of(actor: Actor, *roles: Role) -> APIClient:
    user = User.objects.get(pk=actor.id)
    _, text = token_make(actor=actor_of(user), user=user, label="tests", roles=frozenset(roles))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {text}")
    return client


def form(review: Review, **more: Any) -> dict[str, Any]:
    hashes = {"plan_hash": review.plan_hash, "evidence_hash": review.evidence_hash}
    return {"expected_revision": review.revision, **hashes, "reason": "", **more}


@pytest.fixture
def alice() -> Actor:
    return make_actor("alice")


@pytest.fixture
def ana() -> Actor:
    return approver("ana")


@pytest.fixture
def question(alice: Actor) -> Review:
    return ask(alice, deadline_at=now() + timedelta(hours=5))


def test_the_list_shows_what_waits_for_me_first(question: Review, alice: Actor, ana: Actor) -> None:
    assert "Waiting for you" in page_of(ana).get("/reviews/").content.decode()
    text = page_of(alice).get("/reviews/").content.decode()
    assert "Waiting for you" not in text
    assert "Go on to 100 %?" in text


def test_on_a_phone_every_number_of_the_evidence_stands_beside_its_name(question: Review, ana: Actor) -> None:
    """Where a table would be cut at the edge, the values that decide were out of sight."""
    text = page_of(ana).get(f"/reviews/{question.pk}/").content.decode()
    gates = text.split("<h3>Gates</h3>")[1].split("</table>")[0]
    assert '<table class="cards-on-phone">' in gates
    head = re.findall(r'<th scope="col">([^<]+)</th>', gates)
    assert head == ["Gate", "Verdict", "Limit", "N", "Value"]
    assert re.findall(r'<td data-th="([^"]+)"', gates) == head * 2


def test_an_empty_list_says_when_the_last_decision_was(question: Review, ana: Actor) -> None:
    decide(ana, question)
    text = page_of(ana).get("/reviews/").content.decode()
    assert "Nothing waits." in text
    assert "Last decision" in text
    assert "approved" in page_of(ana).get("/reviews/?show=closed").content.decode()


def test_the_page_shows_request_evidence_and_the_forms_and_escapes_all_of_it(question: Review, ana: Actor) -> None:
    text = page_of(ana).get(f"/reviews/{question.pk}/").content.decode()
    for part in ("It has served 25 %", "8,412", "25 %", "too few samples", 'data-opens="a"', 'data-opens="m"'):
        assert part in text
    assert "<script>alert" not in text
    assert text.index("p95") < text.index("error rate")  # the worst first


def test_looking_decides_nothing(question: Review, ana: Actor) -> None:
    client = page_of(ana)
    assert client.get(f"/reviews/{question.pk}/?verdict=approve&expected_revision=1").status_code == 200
    assert client.head(f"/reviews/{question.pk}/").status_code == 200
    assert not Decision.objects.exists()


def test_a_person_approves_on_the_page(question: Review, ana: Actor) -> None:
    answer = page_of(ana).post(f"/reviews/{question.pk}/", form(question, verdict="approve"), follow=True)
    assert "The review is approved." in answer.content.decode()
    question.refresh_from_db()
    assert question.state == "approved"


@pytest.mark.parametrize(
    ("more", "status", "said"),
    [
        ({"verdict": "approve", "expected_revision": 9}, 409, "changed since you looked"),
        ({"verdict": "reject"}, 422, "Say why"),
        ({"verdict": "explode"}, 422, "Choose to approve"),
        ({"verdict": "approve", "evidence_hash": ""}, 409, "not what you looked at"),
    ],
)
def test_what_is_refused_is_said_and_what_was_typed_is_kept(
    question: Review, ana: Actor, more: dict[str, Any], status: int, said: str
) -> None:
    answer = page_of(ana).post(f"/reviews/{question.pk}/", form(question, **more))
    assert (answer.status_code, said in answer.content.decode()) == (status, True)
    assert not Decision.objects.exists()


def test_whoever_asked_reads_why_they_cannot_decide_and_may_withdraw(question: Review, alice: Actor) -> None:
    client = page_of(alice)
    text = client.get(f"/reviews/{question.pk}/").content.decode()
    assert "somebody else decides" in text
    assert 'data-opens="a"' not in text
    assert client.post(f"/reviews/{question.pk}/", form(question, verdict="approve")).status_code == 403
    client.post(f"/reviews/{question.pk}/", form(question, verdict="withdraw", reason="Not today."))
    question.refresh_from_db()
    assert question.state == "withdrawn"


def test_whoever_has_no_role_sees_nothing(question: Review) -> None:
    mallory = make_actor("mallory")
    assert page_of(mallory).get("/reviews/").status_code in {403, 404}
    assert Client().get(f"/reviews/{question.pk}/").status_code == 302


def test_a_key_reads_and_does_not_decide(question: Review, ana: Actor) -> None:
    api = key_of(ana, Role.APPROVER)
    found = api.get(f"/api/v1/reviews/{question.pk}")
    assert (found.status_code, found.json()["evidence"]) == (200, EVIDENCE)
    assert found["ETag"].startswith('"1.')
    assert [one["id"] for one in api.get("/api/v1/reviews?state=open&subject_kind=rollout").json()["items"]] == [
        question.pk
    ]
    answer = api.post(f"/api/v1/reviews/{question.pk}/decisions", form(question, verdict="approve"), format="json")
    assert (answer.status_code, answer.json()["code"]) == (403, "humans_only")


def test_a_session_decides_by_the_api_and_a_stale_look_is_a_conflict(question: Review, ana: Actor) -> None:
    client = APIClient()
    client.force_login(User.objects.get(pk=ana.id), backend="django.contrib.auth.backends.ModelBackend")
    path = f"/api/v1/reviews/{question.pk}/decisions"
    stale = client.post(path, form(question, verdict="approve", expected_revision=4), format="json")
    assert (stale.status_code, stale.json()["revision"], stale.json()["state"]) == (409, 1, "open")
    done = client.post(path, form(question, verdict="approve"), format="json")
    assert (done.status_code, done.json()["state"]) == (200, "approved")
    assert done.json()["decisions"][0]["person"] == "ana"


def test_a_key_withdraws_what_it_asked(alice: Actor) -> None:
    api = key_of(alice, Role.ENGINEER)
    theirs = ask(alice)
    body = {"reason": "Not today.", "expected_revision": 1}
    assert api.post(f"/api/v1/reviews/{theirs.pk}/withdraw", body, format="json").status_code == 403
    assert api.get("/api/v1/reviews/rv_unknown").status_code == 404
    assert api.get("/api/v1/reviews?stat=open").status_code == 422


@pytest.mark.parametrize(
    "odd",
    [{}, [], "text", 3, None, {"a": {"b": {"c": {"d": {"e": {"f": {"g": 1}}}}}}}, [{"verdict": []}, {}], {"x": [[1]]}],
)
def test_any_evidence_can_be_shown(alice: Actor, ana: Actor, odd: Any) -> None:
    blocks_of(odd)
    if isinstance(odd, dict):
        review = ask(alice, evidence=odd)
        assert page_of(ana).get(f"/reviews/{review.pk}/").status_code == 200
