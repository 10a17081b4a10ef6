"""One model: what stands on its page, what can be done to it, and by whom."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now
from apps.registry.models import Alias, Model, ModelVersion, PromotionRequest
from apps.registry.services.aliases import alias_move
from apps.registry.services.catalogue import model_describe, model_tag_set
from apps.registry.services.versions import Entry, version_create
from apps.registry.web import model_page
from tests.api.world import World
from tests.registry_web.conftest import Shelf
from tests.web.conftest import Browser

POSTS = (
    ("describe", {"description": "x"}, "model.write"),
    ("tag", {"key": "a", "value": "b"}, "model.write"),
    ("alias", {"alias": "next", "version": "1.0.0"}, "alias.move"),
    ("delete", {"confirm": "fraud"}, "model.delete"),
)


def page(shelf: Shelf, who: str = "vera", query: str = "") -> str:
    return shelf.enter(who).get(f"/models/fraud/{query}").content.decode()


def test_versions_stand_with_number_trust_format_metrics_and_size(shelf: Shelf) -> None:
    html = page(shelf)
    for words in ("2.0.0", "v3", "verified", "0.85", "log_loss", "The 1.1.0 of it."):
        assert words in html


def test_the_lines_load_what_can_be_loaded(shelf: Shelf) -> None:
    version_create(actor=shelf.people["rosa"], model_name="fraud", entry=Entry(source="s3://elsewhere/model"))
    assert "models:/fraud/3&quot;" in page(shelf), "number 4 is newer, and its bytes are nowhere"
    alias_move(actor=SYSTEM, model_name="fraud", alias="a-first", version="4")
    assert "models:/fraud/3&quot;" in page(shelf)
    alias_move(actor=SYSTEM, model_name="fraud", alias="champion", version="1.0.0")
    assert "models:/fraud@champion" in page(shelf)
    ModelVersion.objects.filter(pk=shelf.versions["1.0.0"].pk).update(trust="missing")
    assert "models:/fraud/3&quot;" in page(shelf)
    ModelVersion.objects.update(trust="unverified")
    assert "no version is verified" in page(shelf)


@pytest.mark.parametrize(("verb", "body", "action"), POSTS)
def test_a_foreign_model_does_not_exist(shelf: Shelf, verb: str, body: dict[str, str], action: str) -> None:
    finn = shelf.enter("finn")
    assert finn.get("/models/fraud/").status_code == 404
    assert finn.post(f"/models/fraud/{verb}/", body).status_code == 404
    model = Model.objects.get(name="fraud")
    assert model.description == "Scores card payments."
    assert not model.tags.exists()
    assert not model.aliases.exists()


@pytest.mark.parametrize(("verb", "body", "action"), POSTS)
def test_who_may_only_look_changes_nothing_and_is_told_who_can(
    shelf: Shelf, verb: str, body: dict[str, str], action: str
) -> None:
    answer = shelf.enter("vera").post(f"/models/fraud/{verb}/", body)
    assert answer.status_code == 403
    assert "engineer" in answer.content.decode()
    assert "It needs the role engineer in the team risk" in page(shelf)
    assert Model.objects.filter(name="fraud").exists()


@pytest.mark.parametrize(("verb", "body", "action"), POSTS)
def test_nothing_is_changed_by_looking(shelf: Shelf, verb: str, body: dict[str, str], action: str) -> None:
    assert shelf.enter("rosa").get(f"/models/fraud/{verb}/", body).status_code == 405


def test_a_form_without_its_token_is_refused(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    rosa.handler.enforce_csrf_checks = True
    assert rosa.post("/models/fraud/describe/", {"description": "x"}).status_code == 403


def test_an_engineer_describes_in_markdown_and_the_audit_log_keeps_it(shelf: Shelf) -> None:
    answer = shelf.enter("rosa").post("/models/fraud/describe/", {"description": "# Fraud\n\nUse **daily**."})
    assert answer.status_code == 302
    html = page(shelf)
    assert "<strong>daily</strong>" in html
    assert "<h3>Fraud</h3>" in html
    assert Event.objects.filter(verb="model.described", actor_label="rosa").exists()


HOSTILE = """
<script>alert(1)</script> <img src=x onerror=alert(2)>
[a](javascript:alert(3)) [b](data:text/html;base64,PHNjcmlwdD4=) [c](vbscript:x) [d](https://example.org "t")
![pixel](https://tracker.example/p.png) <https://example.org/auto> `<b>code</b>`

| a |
| :-: |
| <svg onload=alert(4)> |

<style>*{display:none}</style>
"""


def test_markdown_of_people_becomes_no_markup_of_ours(shelf: Shelf) -> None:
    model_describe(actor=SYSTEM, name="fraud", description=HOSTILE)
    html = page(shelf)
    told = html.split('<div class="md lead-text">')[1].split("</div>")[0]
    for bad in ("<script", "<img", "<svg", "<style", 'href="javascript', 'href="data', 'href="vbscript', "style="):
        assert bad not in told.lower()
    assert 'href="https://example.org" title="t" rel="noopener nofollow"' in told
    assert told.count("<a ") == 2
    assert told.count('rel="noopener nofollow"') == 2


def test_a_tag_is_set_and_removed(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    assert rosa.post("/models/fraud/tag/", {"key": "owner", "value": "ana"}).status_code == 302
    assert "owner" in page(shelf)
    assert rosa.post("/models/fraud/tag/", {"key": "owner", "remove": "1"}).status_code == 302
    assert not Model.objects.get(name="fraud").tags.exists()


def test_a_tag_that_cannot_be_is_told_beside_the_field_and_stays_typed(shelf: Shelf) -> None:
    answer = shelf.enter("rosa").post("/models/fraud/tag/", {"key": "a$b", "value": "kept words"})
    html = answer.content.decode()
    assert answer.status_code == 422
    assert 'id="fault-key"' in html
    assert 'value="a$b"' in html
    assert 'value="kept words"' in html


def test_a_free_alias_is_moved_and_its_history_told(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    rosa.post("/models/fraud/alias/", {"alias": "next", "version": "1.0.0"})
    rosa.post("/models/fraud/alias/", {"alias": "next", "version": "1.1.0"})
    html = page(shelf)
    assert "1.0.0 → " in html
    assert "by rosa" in html
    assert Alias.objects.get(name="next").version.semver == "1.1.0"
    rosa.post("/models/fraud/alias/", {"alias": "next", "remove": "1"})
    assert not Alias.objects.exists()


def test_a_protected_alias_does_not_move_but_asks_and_the_request_is_shown(shelf: Shelf) -> None:
    alias_move(actor=SYSTEM, model_name="fraud", alias="champion", version="1.0.0")
    answer = shelf.enter("rosa").post("/models/fraud/alias/", {"alias": "champion", "version": "1.1.0"}, follow=True)
    request = PromotionRequest.objects.get()
    assert answer.redirect_chain[-1][0] == f"/models/promotions/{request.pk}/"
    assert "is protected, so it did not move" in answer.content.decode()
    assert Alias.objects.get(name="champion").version.semver == "1.0.0"
    html = page(shelf)
    assert "rosa wants <b>champion</b>" in html
    assert f"/models/promotions/{request.pk}/" in html


@pytest.mark.parametrize(
    ("body", "field", "status"),
    [
        ({"alias": "Next!", "version": "1.0.0"}, "alias", 422),
        ({"alias": "v1", "version": "1.0.0"}, "alias", 422),
        ({"alias": "latest", "version": "1.0.0"}, "alias", 422),
        ({"alias": "next", "version": ""}, "version", 422),
        ({"alias": "next", "version": "1.0.0", "expected": "1.1.0"}, "", 409),
    ],
)
def test_an_alias_that_cannot_be_moved_stays_and_the_form_says_why(
    shelf: Shelf, body: dict[str, str], field: str, status: int
) -> None:
    answer = shelf.enter("rosa").post("/models/fraud/alias/", body)
    html = answer.content.decode()
    assert answer.status_code == status
    assert f'id="fault-{field}"' in html if field else 'class="note bad" role="alert"' in html
    assert not Alias.objects.exists()


def test_who_served_what_on_a_day_is_answered_from_the_history(shelf: Shelf) -> None:
    alias_move(actor=SYSTEM, model_name="fraud", alias="champion", version="1.0.0")
    between = now()
    alias_move(actor=SYSTEM, model_name="fraud", alias="champion", version="1.1.0")
    then = page(shelf, query=f"?on={between:%Y-%m-%dT%H:%M:%S.%f}")
    assert '<b>champion</b> was <a href="/models/fraud/versions/1.0.0/">1.0.0</a>' in then
    before = page(shelf, query=f"?on={now() - timedelta(days=1):%Y-%m-%dT%H:%M}")
    assert "no alias of fraud pointed anywhere" in before
    answer = shelf.enter("vera").get("/models/fraud/?on=yesterday")
    assert "is no time" in answer.content.decode()


def test_older_versions_are_pages_and_the_table_can_be_narrowed(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_page, "PER_PAGE", 2)
    first = page(shelf)
    assert 'data-href="/models/fraud/versions/1.0.0/"' not in first
    assert "below=2" in first
    assert 'data-href="/models/fraud/versions/1.0.0/"' in page(shelf, query="?below=2")
    assert "No version of fraud is like that" in page(shelf, query="?show=failed")
    assert shelf.enter("vera").get("/models/fraud/?below=x").status_code == 302


def test_deleting_takes_the_typed_name_and_hides_it(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    answer = rosa.post("/models/fraud/delete/", {"confirm": "frau"})
    assert answer.status_code == 422
    assert "Type fraud to delete it" in answer.content.decode()
    assert rosa.post("/models/fraud/delete/", {"confirm": "fraud"}).headers["Location"] == "/models/"
    assert rosa.get("/models/fraud/").status_code == 404
    assert ModelVersion.everything.filter(model__name="fraud").count() == 3


def test_a_model_that_an_endpoint_runs_is_not_deleted_and_the_place_is_named(world: World, browser: Browser) -> None:
    alice = browser("alice")
    answer = alice.post("/models/late-arrival/delete/", {"confirm": "late-arrival"})
    assert answer.status_code == 422
    assert "late-arrival runs on late-arrival" in answer.content.decode()
    assert Model.objects.filter(name="late-arrival").exists()


def test_where_a_version_runs_stands_in_its_row(world: World, browser: Browser) -> None:
    html = browser("bob").get("/models/late-arrival/").content.decode()
    assert 'class="swatch role-stable"' in html
    assert '<a href="/endpoints/late-arrival/">late-arrival</a> 100 %' in html


def test_tags_descriptions_and_names_are_escaped(shelf: Shelf) -> None:
    model_tag_set(actor=SYSTEM, name="fraud", key="k", value="<script>alert(1)</script>")
    assert "<script>alert" not in page(shelf)
