"""Protected aliases: asked for, decided by somebody else, carried out once, and kept with everything they came by."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest

from apps.accounts.models import User
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, Forbidden, NotFound, PolicyRefused
from apps.kernel.models import OutboxEntry
from apps.registry import selectors
from apps.registry.domain.words import PromotionState
from apps.registry.models import AliasMove, PromotionRequest
from apps.registry.services import aliases, catalogue, promotion
from apps.registry.services.promotion import PromotionAsked
from apps.registry.services.versions import Entry, version_create, version_delete
from tests.api.conftest import Caller, caller
from tests.cast import make_actor

__all__ = ["caller"]
pytestmark = pytest.mark.django_db
CAROL = {"7001": "carol"}


class Late:
    """Alice and the model ``late`` with three versions; ``champion`` points at the first."""

    def __init__(self) -> None:
        self.alice = make_actor("alice")
        catalogue.model_register(actor=self.alice, name="late")
        for number in (1, 2, 3):
            version_create(actor=self.alice, model_name="late", entry=Entry(f"s3://{number}"))
        self.point(1)

    def point(self, number: int, actor: Actor | None = None) -> None:
        aliases.alias_set(actor=actor or self.alice, model_name="late", alias="champion", number=number)

    def ask(self, number: int) -> PromotionRequest:
        with pytest.raises(PromotionAsked) as asked:
            self.point(number)
        return promotion.promotion_get(asked.value.extra["request"])

    def carry_out(self, request: PromotionRequest, **how: Any) -> PromotionRequest:
        given = {"actor": SYSTEM, "review_id": "re_1", "people": CAROL, **how}
        return promotion.promotion_carry_out(promotion_id=request.pk, **given)

    @property
    def champion(self) -> int:
        return selectors.version_by("late", "champion").number


@pytest.fixture
def late(db: None) -> Late:
    return Late()


def test_a_protected_alias_is_asked_for_once_and_rollouts_is_rung_in_the_same_transaction(late: Late) -> None:
    request = late.ask(2)
    with pytest.raises(PromotionAsked) as again:
        aliases.alias_move(actor=late.alice, model_name="late", alias="champion", version="2")
    assert again.value.extra["request"] == request.pk
    assert (request.asked_by, request.seen_version.number, request.version.number) == ("alice", 1, 2)  # type: ignore[union-attr]
    assert request.asked_people == sorted(late.alice.people) != []
    rung = OutboxEntry.objects.get(name="rollouts.promotion_requested")
    assert rung.payload["promotion_id"] == request.pk
    assert [one.pk for one in promotion.promotions_open(without_review=True)] == [request.pk]
    assert late.champion == 1


def test_the_move_is_kept_with_its_review_its_rollout_and_who_approved(late: Late) -> None:
    request = late.ask(2)
    promotion.promotion_reviewed_by(promotion_id=request.pk, review_id="re_1", rollout_id="ro_1")
    assert promotion.promotions_open(without_review=True) == []
    done = late.carry_out(request)
    assert (done.state, done.review_id, done.rollout_id) == (PromotionState.CARRIED_OUT, "re_1", "ro_1")
    assert late.champion == 2
    move = selectors.alias_history("late", "champion")[0]
    assert (move.request_id, move.review_id, move.rollout_id) == (request.pk, "re_1", "ro_1")
    assert move.people == [{"id": "7001", "name": "carol"}]
    told = Event.objects.filter(verb="alias.moved").latest("seq").detail
    known = (told["promotion"], told["review"], told["rollout"], told["approved_by"])
    assert known == (request.pk, "re_1", "ro_1", "carol")
    assert Event.objects.get(verb="promotion.settled").detail["state"] == "carried_out"


def test_carrying_out_again_changes_nothing_and_a_closed_request_stays_closed(late: Late) -> None:
    request = late.ask(2)
    late.carry_out(request)
    late.carry_out(request)
    assert AliasMove.objects.filter(name="champion").count() == 2
    with pytest.raises(Conflict, match="carried out already"):
        promotion.promotion_reject(actor=SYSTEM, promotion_id=request.pk)
    with pytest.raises(Conflict):
        late.carry_out(request, review_id="re_2")


def test_whoever_asked_is_not_the_second_person(late: Late) -> None:
    request = late.ask(2)
    for people in ({}, {next(iter(late.alice.people)): "alice"}):
        with pytest.raises(Forbidden, match="Nobody but who asked"):
            late.carry_out(request, people=people)
    assert late.champion == 1


def test_a_key_with_nobody_behind_it_cannot_ask(late: Late) -> None:
    machine = Actor("key", "k1", "nightly", late.alice.actions, grants=late.alice.grants)
    with pytest.raises(Forbidden, match="no person stands behind nightly"):
        late.point(2, machine)
    assert not PromotionRequest.objects.exists()


def test_one_review_decides_a_request(late: Late) -> None:
    request = late.ask(2)
    promotion.promotion_reviewed_by(promotion_id=request.pk, review_id="re_1")
    promotion.promotion_reviewed_by(promotion_id=request.pk, review_id="re_1", rollout_id="ro_1")
    with pytest.raises(Conflict, match="re_1 decides"):
        promotion.promotion_reviewed_by(promotion_id=request.pk, review_id="re_2")
    with pytest.raises(Conflict, match="re_1 decides"):
        promotion.promotion_reject(actor=SYSTEM, promotion_id=request.pk, review_id="re_2")


def test_a_request_is_not_carried_out_once_the_alias_has_moved(late: Late) -> None:
    request = late.ask(2)
    late.point(3, SYSTEM)
    with pytest.raises(Conflict, match="has moved"):
        late.carry_out(request)
    assert (late.champion, promotion.promotion_get(request.pk).state) == (3, "open")
    voided = promotion.promotion_reject(actor=SYSTEM, promotion_id=request.pk, state=PromotionState.VOIDED)
    assert voided.state == PromotionState.VOIDED


def test_a_version_that_was_deleted_meanwhile_is_not_promoted(late: Late) -> None:
    request = late.ask(2)
    version_delete(actor=late.alice, model_name="late", number=2)
    with pytest.raises(NotFound):
        late.carry_out(request)
    assert late.champion == 1


def test_taking_a_protected_alias_away_is_asked_for_as_well(late: Late) -> None:
    with pytest.raises(PromotionAsked) as asked:
        aliases.alias_remove(actor=late.alice, model_name="late", alias="champion")
    for act in (
        lambda: version_delete(actor=late.alice, model_name="late", number=1),
        lambda: catalogue.model_delete(actor=late.alice, name="late"),
    ):
        with pytest.raises(PolicyRefused, match="champion"):
            act()
    late.carry_out(promotion.promotion_get(asked.value.extra["request"]))
    assert selectors.alias_list("late") == []
    catalogue.model_delete(actor=late.alice, name="late")


def test_the_asker_may_withdraw_and_nobody_else(late: Late) -> None:
    request = late.ask(2)
    with pytest.raises(Forbidden, match="alice asked"):
        promotion.promotion_withdraw(actor=make_actor("olga"), promotion_id=request.pk)
    done = promotion.promotion_withdraw(actor=late.alice, promotion_id=request.pk, note="wrong one")
    assert (done.state, done.note, done.settled_by) == (PromotionState.WITHDRAWN, "wrong one", "alice")
    assert late.ask(2).pk != request.pk


def test_who_served_what_on_a_day(late: Late) -> None:
    began = now()
    late.carry_out(late.ask(2))
    between = now()
    late.carry_out(late.ask(3), review_id="re_2", rollout_id="ro_2")
    found = [selectors.alias_at("late", "champion", at) for at in (began, between, now())]
    assert [move.to_version.number for move in found if move and move.to_version] == [1, 2, 3]
    assert selectors.alias_at("late", "champion", began - timedelta(days=1)) is None


def test_the_api_tells_the_story_of_an_alias(late: Late, caller: Caller) -> None:
    alice, bob = caller("alice"), caller("bob")
    refused = alice.call("PUT", "models/late/aliases/champion", {"version": "2"})
    assert (refused.status_code, refused.json()["code"]) == (403, "promotion_requested")
    (one,) = bob.call("GET", "promotions?state=open").json()["items"]
    assert (one["model"], one["alias"], one["version"], one["seen_version"]) == ("late", "champion", "2", "1")
    before = now().isoformat()
    late.carry_out(promotion.promotion_get(one["id"]), rollout_id="ro_1")
    assert bob.call("GET", f"promotions/{one['id']}").json()["state"] == "carried_out"
    current = bob.call("GET", "models/late/aliases/champion").json()
    assert (current["version"], current["move"]["rollout"]) == ("2", "ro_1")
    assert current["move"]["approved_by"] == [{"id": "7001", "name": "carol"}]
    past = bob.get("/api/v1/models/late/aliases/champion", {"at": before}).json()
    assert (past["version"], past["move"]["promotion"]) == ("1", None)
    moves = bob.call("GET", "models/late/aliases/champion/moves").json()["items"]
    assert [(move["from_version"], move["to_version"]) for move in moves] == [("1", "2"), (None, "1")]


def test_a_rehearsed_move_opens_no_request_and_names_none(late: Late, caller: Caller) -> None:
    told = caller("alice").call("PUT", "models/late/aliases/champion?dry_run=true", {"version": "2"})
    assert (told.status_code, told.json()["code"]) == (403, "promotion_needed")
    assert not PromotionRequest.objects.exists()


def test_a_request_has_a_page_at_the_address_that_the_client_prints(late: Late, client: Any) -> None:
    with pytest.raises(PromotionAsked) as asked:
        late.point(2)
    client.force_login(User.objects.get(username="alice"))
    page = client.get(urlsplit(asked.value.extra["url"]).path)
    assert page.status_code == 200
    assert "alice asked" in page.content.decode()
