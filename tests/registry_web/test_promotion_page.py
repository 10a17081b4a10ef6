"""The request to move a protected alias: who asked for what, who decides, and taking it back."""

from __future__ import annotations

import pytest

from apps.kernel.actor import SYSTEM
from apps.registry.models import Alias, PromotionRequest
from apps.registry.services.aliases import alias_move
from tests.registry_web.conftest import Shelf


@pytest.fixture
def asked(shelf: Shelf) -> PromotionRequest:
    """rosa wants champion to go from 1.0.0 to 1.1.0."""
    alias_move(actor=SYSTEM, model_name="fraud", alias="champion", version="1.0.0")
    shelf.enter("rosa").post("/models/fraud/versions/1.1.0/promote/", {"alias": "champion"})
    return PromotionRequest.objects.get()


def test_it_tells_who_asked_for_what_and_links_the_comparison(shelf: Shelf, asked: PromotionRequest) -> None:
    html = shelf.enter("vera").get(f"/models/promotions/{asked.pk}/").content.decode()
    assert "rosa asked" in html
    assert "waits for a decision" in html
    assert "/models/fraud/compare/?a=1.0.0&amp;b=1.1.0" in html
    assert "Take it back" not in html


def test_it_links_the_review_that_decides(shelf: Shelf, asked: PromotionRequest) -> None:
    PromotionRequest.objects.update(review_id="rv_1")
    assert 'href="/reviews/rv_1/"' in shelf.enter("vera").get(f"/models/promotions/{asked.pk}/").content.decode()


def test_whoever_asked_takes_it_back_once(shelf: Shelf, asked: PromotionRequest) -> None:
    rosa = shelf.enter("rosa")
    address = f"/models/promotions/{asked.pk}/withdraw/"
    assert rosa.post(address, {"note": "Not yet."}).status_code == 302
    html = rosa.get(f"/models/promotions/{asked.pk}/").content.decode()
    assert "withdrawn" in html
    assert "Not yet." in html
    rosa.post(address, {"note": "Again."})
    assert PromotionRequest.objects.get().note == "Not yet.", "a second click changes nothing"
    assert Alias.objects.get(name="champion").version.semver == "1.0.0"


def test_a_stranger_neither_sees_it_nor_takes_it_back(shelf: Shelf, asked: PromotionRequest) -> None:
    finn = shelf.enter("finn")
    assert finn.get(f"/models/promotions/{asked.pk}/").status_code == 404
    assert finn.post(f"/models/promotions/{asked.pk}/withdraw/").status_code == 404
    assert shelf.enter("vera").post(f"/models/promotions/{asked.pk}/withdraw/").status_code == 403
    assert PromotionRequest.objects.get().state == "open"


def test_somebody_else_of_the_team_cannot_take_it_back(shelf: Shelf, asked: PromotionRequest) -> None:
    PromotionRequest.objects.update(asked_kind="user", asked_id="0", asked_by="bea", asked_people=["0"])
    answer = shelf.enter("rosa").post(f"/models/promotions/{asked.pk}/withdraw/")
    assert answer.status_code == 422
    assert "Only bea can take it back" in answer.content.decode()


@pytest.mark.parametrize("request_id", ["pr_nothing", "%00", "x"])
def test_what_is_no_request_is_not_found(shelf: Shelf, request_id: str) -> None:
    assert shelf.enter("vera").get(f"/models/promotions/{request_id}/").status_code == 404
