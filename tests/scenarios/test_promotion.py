"""A protected alias: the request, the review, the move and its rollout are one story."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from apps.accounts.domain.roles import Role
from apps.audit.models import Event
from apps.kernel.actor import Actor
from apps.registry.models import Alias, AliasMove, ModelVersion, PromotionRequest
from apps.registry.services.aliases import alias_move
from apps.registry.services.promotion import PromotionAsked, promotion_withdraw
from apps.reviews.domain.states import Verdict
from apps.reviews.models import Review
from apps.rollouts.models import Rollout
from apps.rollouts.services.promotion import promotion_review, promotion_settle, promotions_due
from apps.targets.models import Endpoint
from apps.targets.services.connect import endpoint_follow
from tests.cast import make_actor
from tests.fakes.targets import ALICE
from tests.scenarios.stage import Stage, open_stage
from tests.scenarios.test_approvals import say

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    """An endpoint that follows ``champion``, which points at 1.0.0."""
    with open_stage(tmp_path) as opened:
        alias_move(actor=ALICE, model_name="late-arrival", alias="champion", version="1.0.0")
        endpoint_follow(actor=ALICE, endpoint_id=opened.site.endpoint.pk, follows="champion")
        yield opened


@pytest.fixture
def alice() -> Actor:
    return make_actor("alice")


@pytest.fixture
def ana() -> Actor:
    return make_actor("ana", frozenset({Role.APPROVER}))


def ask(actor: Actor, version: ModelVersion) -> PromotionRequest:
    with pytest.raises(PromotionAsked):
        alias_move(actor=actor, model_name="late-arrival", alias="champion", version=version.semver)
    return PromotionRequest.objects.get(state="open")


def champion() -> str:
    return Alias.objects.get(name="champion").version.semver


def test_an_approved_move_moves_the_alias_and_starts_the_rollout_in_one_story(
    stage: Stage, alice: Actor, ana: Actor
) -> None:
    request = ask(alice, stage.version("1.1.0", metrics={"auc": 0.8}))
    review = Review.objects.get(pk=promotion_review(request.pk))
    assert promotion_review(request.pk) == review.pk
    row = review.evidence["endpoints"][0]
    assert (row["endpoint"], row["serves"]) == ("late-arrival", "1.0.0")
    assert row["on approval"].startswith("canary, fast pace")
    assert review.evidence["move"] == {"alias": "champion", "from": "1.0.0", "to": "1.1.0"}
    assert review.barred == [alice.id]
    assert promotion_settle(request.pk) == "open"
    say(ana, review, Verdict.APPROVE, "better on every metric")
    assert promotion_settle(request.pk) == "carried_out"
    assert promotion_settle(request.pk) == "carried_out"
    rollout = Rollout.objects.get()
    request.refresh_from_db()
    assert (champion(), request.rollout_id, rollout.promotion_id) == ("1.1.0", rollout.pk, request.pk)
    move = AliasMove.objects.order_by("-at", "-id").first()
    assert move is not None
    assert (move.review_id, move.rollout_id) == (review.pk, rollout.pk)
    assert rollout.starters == [alice.id]
    stage.run(200, rollout=rollout)
    assert stage.reload(rollout).phase == "promoted"
    assert Event.objects.get(verb="rollout.created").detail["promotion"] == request.pk


def test_a_rejected_move_moves_nothing(stage: Stage, alice: Actor, ana: Actor) -> None:
    request = ask(alice, stage.version("1.1.0"))
    say(ana, Review.objects.get(pk=promotion_review(request.pk)), Verdict.REJECT, "no card")
    assert promotion_settle(request.pk) == "refused"
    request.refresh_from_db()
    assert (champion(), request.note) == ("1.0.0", "rejected: ana (no card)")
    assert not Rollout.objects.exists()


def test_an_approval_is_void_when_what_it_would_do_has_changed(stage: Stage, alice: Actor, ana: Actor) -> None:
    request = ask(alice, stage.version("1.1.0"))
    review = Review.objects.get(pk=promotion_review(request.pk))
    endpoint_follow(actor=ALICE, endpoint_id=stage.site.endpoint.pk, follows="")
    say(ana, review, Verdict.APPROVE)
    assert promotion_settle(request.pk) == "voided"
    assert champion() == "1.0.0"


def test_a_target_that_does_not_answer_is_waited_for(stage: Stage, alice: Actor, ana: Actor) -> None:
    request = ask(alice, stage.version("1.1.0"))
    review = Review.objects.get(pk=promotion_review(request.pk))
    say(ana, review, Verdict.APPROVE)
    Endpoint.objects.filter(pk=stage.site.endpoint.pk).update(observe_error="connection refused")
    assert promotion_settle(request.pk) == "open"
    assert (champion(), Rollout.objects.count()) == ("1.0.0", 0)
    Endpoint.objects.filter(pk=stage.site.endpoint.pk).update(observe_error="")
    promotions_due()
    assert (champion(), Rollout.objects.count()) == ("1.1.0", 1)


def test_lost_bells_are_made_up_for_and_a_withdrawn_request_voids_its_review(stage: Stage, alice: Actor) -> None:
    request = ask(alice, stage.version("1.1.0"))
    assert promotions_due() == 1
    review = Review.objects.get(subject_id=request.pk)
    assert review.state == "open"
    promotion_withdraw(actor=alice, promotion_id=request.pk, note="not yet")
    promotions_due()
    review.refresh_from_db()
    assert (review.state, champion()) == ("voided", "1.0.0")
    assert promotions_due() == 0


def test_a_version_that_would_break_callers_is_never_moved_to(stage: Stage, alice: Actor, ana: Actor) -> None:
    wanted = {"inputs": [{"name": "carrier", "type": "string", "required": True}], "outputs": []}
    request = ask(alice, stage.version("2.0.0", signature=wanted))
    review = Review.objects.get(pk=promotion_review(request.pk))
    assert "blocked" in review.evidence["endpoints"][0]["on approval"]
    say(ana, review, Verdict.APPROVE)
    assert promotion_settle(request.pk) == "voided"
    assert champion() == "1.0.0"
