"""What the log's sentences say: what happened to a rollout, an endpoint, a role, and from what to what it changed."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext

from apps.accounts.domain.roles import Role
from apps.audit.domain.told import Story, changes_of, sentence_of
from apps.audit.domain.verbs import VERBS
from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM, Actor
from tests.cast import make_user

LABEL = "late-arrival to 1.1.0"
STORY = Story(stable="1.0.0", candidate="1.1.0", weight_bp=500)
ANA = Actor("user", "7", "ana")


def detail(action: str, before: str, after: str, weight_bp: int = 500, reason: str = "so it is") -> dict[str, Any]:
    """As apps/rollouts/services/record.py writes it."""
    told = {"action": action, "from": before, "to": after, "reason": reason}
    return {**told, "step": 1, "weight_bp": weight_bp, "revision": 2}


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (detail("Prepare", "pending", "preparing", 0), "began to bring up 1.1.0 on late-arrival, without traffic"),
        (detail("Shift", "baking", "shifting", 2500), "moved 1.1.0 on late-arrival to 25 %"),
        (detail("Bake", "shifting", "baking"), "let 1.1.0 bake at 5 % on late-arrival"),
        (
            detail("Pause", "baking", "paused", reason="paused by ana: too slow for lunch"),
            "paused 1.1.0 on late-arrival at 5 % because too slow for lunch",
        ),
        (detail("Pause", "baking", "paused", reason="paused by ana"), "paused 1.1.0 on late-arrival at 5 %"),
        (
            detail("RollBack", "baking", "rolling_back", 0, "error rate 7 % is over the limit of 1 %"),
            "began to roll late-arrival back to 1.0.0 because error rate 7 % is over the limit of 1 %",
        ),
        (
            detail("Settle", "rolling_back", "rolled_back", 0, "error rate 7 % is over the limit of 1 %"),
            "rolled late-arrival back to 1.0.0 because error rate 7 % is over the limit of 1 %",
        ),
        (detail("Finish", "promoting", "promoted", 10_000), "promoted 1.1.0 on late-arrival"),
    ],
)
def test_a_step_of_a_rollout_says_what_happened(entry: dict[str, Any], said: str) -> None:
    assert sentence_of("rollout.transitioned", LABEL, entry, actor="ana", story=STORY) == said


def test_a_step_says_what_it_was_before_and_what_it_is_now() -> None:
    found = changes_of("rollout.transitioned", detail("Shift", "baking", "shifting", 2500), story=STORY)
    assert found == [("weight", "5 %", "25 %"), ("state", "baking", "shifting")]
    back = changes_of("rollout.transitioned", detail("RollBack", "baking", "rolling_back", 0), story=STORY)
    assert back == [("weight", "5 %", "0 %"), ("state", "baking", "rolling back")]


@pytest.mark.parametrize("odd", [None, [], "text", {}, {"action": "Unheard"}, {"action": 3, "weight_bp": "x"}])
@pytest.mark.parametrize("verb", sorted(VERBS))
def test_a_detail_that_is_not_as_expected_still_gives_a_sentence(verb: str, odd: Any) -> None:
    assert sentence_of(verb, "x", odd)
    assert isinstance(changes_of(verb, odd), list)


def test_every_action_that_can_be_recorded_has_words_of_its_own() -> None:
    from apps.rollouts.domain.machine import TABLE

    plain = VERBS["rollout.transitioned"].format(subject=LABEL)
    for (before, action), after in TABLE.items():
        entry = detail(action.partition("(")[0], before.value, after.value)
        assert sentence_of("rollout.transitioned", LABEL, entry, story=STORY) != plain, action


def test_other_entries_say_who_got_what_and_what_an_endpoint_follows() -> None:
    role = {"role": "approver", "team": "risk", "environment": "production"}
    assert sentence_of("user.role_given", "ana", role) == "gave the role approver to ana"
    assert changes_of("user.role_given", role) == [("role", None, "approver in risk, production")]
    follows = {"follows": {"before": "", "after": "champion"}}
    assert sentence_of("endpoint.desired", "late", follows) == "let late follow the alias champion"
    assert changes_of("endpoint.desired", follows) == [("follows", None, "champion")]
    weights = {"weights_bp": {"from": {"v1-0-0": 10_000}, "to": {"v1-0-0": 9500, "v1-1-0": 500}}, "reason": "step 1"}
    assert changes_of("endpoint.desired", weights) == [
        ("weight of 1.0.0", "100 %", "95 %"),
        ("weight of 1.1.0", None, "5 %"),
    ]
    moved = {"alias": "champion", "before": "", "after": "1.0.0"}
    assert changes_of("alias.moved", moved) == [("version", None, "1.0.0")]
    assert sentence_of("version.registered", "late 6", {"number": 6}) == "registered late v6"


def record(actor: Actor, verb: str, told: dict[str, Any], rollout: str = "ro_1") -> None:
    with transaction.atomic():
        event_record(
            actor=actor, verb=verb, subject_kind="rollout", subject_id=rollout, subject_label=LABEL, detail=told
        )


@pytest.mark.django_db
def test_the_page_tells_a_rollout_from_start_to_rollback_in_few_queries() -> None:
    record(ANA, "rollout.created", {"from": "1.0.0", "to": "1.1.0", "strategy": "canary"})
    record(SYSTEM, "rollout.transitioned", detail("Prepare", "pending", "preparing", 0))
    record(SYSTEM, "rollout.transitioned", detail("Shift", "preparing", "shifting", 500))
    record(SYSTEM, "rollout.transitioned", detail("Shift", "baking", "shifting", 2500), rollout="ro_2")
    record(SYSTEM, "rollout.transitioned", detail("RollBack", "shifting", "rolling_back", 0, "p95 is 900 ms"))
    client = Client()
    client.force_login(make_user("ada", frozenset({Role.AUDITOR})))
    client.get("/audit/")  # the first request of a session costs more
    with CaptureQueriesContext(connection) as few:
        html = client.get("/audit/").content.decode()
    for said in (
        "started the rollout of 1.1.0 over 1.0.0 on late-arrival, canary",
        "moved 1.1.0 on late-arrival to 5 %",
        "began to roll late-arrival back to 1.0.0 because p95 is 900 ms",
        "<del>5 %</del>",
        "<ins>0 %</ins>",
    ):
        assert said in html
    assert "planned 1.1.0" not in html
    for n in range(40):
        record(SYSTEM, "rollout.transitioned", detail("Shift", "baking", "shifting", 2500 + n), rollout=f"ro_{n}")
    with CaptureQueriesContext(connection) as many:
        client.get("/audit/")
    assert len(many) == len(few)
    one = client.get("/audit/5/").content.decode()
    assert "<h1>Pilothouse began to roll late-arrival back to 1.0.0 because p95 is 900 ms</h1>" in one
