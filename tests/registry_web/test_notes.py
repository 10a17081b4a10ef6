"""The model card and the list of protected aliases, written from the pages."""

from __future__ import annotations

import pytest

from apps.audit.models import Event
from apps.registry.models import Model
from tests.registry_web.conftest import Shelf

CARD = "/models/fraud/versions/1.1.0/card/"
PROTECT = "/models/fraud/protect/"


def test_a_card_is_written_shown_safely_and_taken_back(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    text = "# What it is for\n\n<script>alert(1)</script> [a link](javascript:alert(1))"
    assert rosa.post(CARD, {"card": text}).status_code == 302
    html = rosa.get("/models/fraud/versions/1.1.0/").content.decode()
    assert "<h1>What it is for</h1>" in html or "What it is for</h" in html
    assert "<script>alert" not in html
    assert 'href="javascript:' not in html
    assert Event.objects.filter(verb="version.card_written").count() == 1
    assert rosa.post(CARD, {"card": ""}).status_code == 302
    assert "nobody has written one yet" in rosa.get("/models/fraud/versions/1.1.0/").content.decode()


def test_whoever_only_looks_writes_no_card_and_a_stranger_finds_no_version(shelf: Shelf) -> None:
    assert shelf.enter("vera").post(CARD, {"card": "x"}).status_code == 403
    assert shelf.enter("finn").post(CARD, {"card": "x"}).status_code == 404
    assert not Event.objects.filter(verb="version.card_written").exists()


def test_protection_is_policy_not_for_whoever_ships(shelf: Shelf) -> None:
    assert shelf.enter("rosa").post(PROTECT, {"aliases": "", "reason": "in my way"}).status_code == 403
    assert Model.objects.get(name="fraud").protected_aliases == ["champion", "production"]


def test_an_admin_of_the_team_changes_it_with_a_reason(shelf: Shelf) -> None:
    adam = shelf.enter("adam")
    assert "Protect aliases" in adam.get("/models/fraud/").content.decode()
    refused = adam.post(PROTECT, {"aliases": "champion", "reason": " "})
    assert refused.status_code == 422
    assert "Say why" in refused.content.decode()
    done = adam.post(PROTECT, {"aliases": "champion, gold", "reason": "gold pays the bills"})
    assert done.status_code == 302
    assert Model.objects.get(name="fraud").protected_aliases == ["champion", "gold"]
    told = Event.objects.get(verb="model.protected").detail
    assert (told["before"], told["after"]) == (["champion", "production"], ["champion", "gold"])


@pytest.mark.parametrize("word", ["latest", "v1", "s2", "a!b"])
def test_what_can_be_no_alias_is_not_protected(shelf: Shelf, word: str) -> None:
    answer = shelf.enter("adam").post(PROTECT, {"aliases": word, "reason": "x"})
    assert answer.status_code == 422
    assert Model.objects.get(name="fraud").protected_aliases == ["champion", "production"]
