"""The list of models: what is found, for whom, in which order, page by page."""

from __future__ import annotations

import pytest

from apps.kernel.actor import SYSTEM
from apps.registry.models import Model
from apps.registry.services.aliases import alias_move
from apps.registry.services.catalogue import model_delete, model_register, model_tag_set
from apps.registry.web import models_page
from tests.registry_web.conftest import Shelf
from tests.web.conftest import Browser


def names(html: str) -> list[str]:
    """The models of the table, in order."""
    return [part.split('"')[0].strip("/") for part in html.split('data-href="/models/')[1:]]


def test_an_empty_registry_teaches_the_three_lines_of_a_training_script(db: None, browser: Browser) -> None:
    html = browser("alice").get("/models/").content.decode()
    assert "export MLFLOW_REGISTRY_URI=" in html
    assert "export MLFLOW_TRACKING_TOKEN=" in html
    assert "registered_model_name=" in html


def test_one_sees_the_models_of_ones_own_team_only(shelf: Shelf) -> None:
    assert names(shelf.enter("vera").get("/models/").content.decode()) == ["fraud"]
    assert names(shelf.enter("finn").get("/models/").content.decode()) == ["late"]


def test_a_row_tells_newest_version_count_aliases_and_team(shelf: Shelf) -> None:
    alias_move(actor=SYSTEM, model_name="fraud", alias="champion", version="1.0.0")
    html = shelf.enter("vera").get("/models/").content.decode()
    assert "champion → 1.0.0" in html
    assert '<a href="/models/fraud/versions/2.0.0/">2.0.0</a>' in html
    assert "risk" in html


@pytest.mark.parametrize(
    "asked",
    ["fra", "CARD", "@champion", "owner:ana", "ana", "fraud payments", "name LIKE 'fr%'", "tags.owner = 'ana'",
     "name ILIKE 'FR%' AND tags.owner != 'bea'", "name IN ('fraud', 'x')"],
)  # fmt: skip
def test_a_model_is_found_by_words_alias_tag_and_the_filter_grammar(shelf: Shelf, asked: str) -> None:
    alias_move(actor=SYSTEM, model_name="fraud", alias="champion", version="1.0.0")
    model_tag_set(actor=SYSTEM, name="fraud", key="owner", value="ana")
    model_register(actor=SYSTEM, name="churn", team="risk")
    assert names(shelf.enter("vera").get("/models/", {"q": asked}).content.decode()) == ["fraud"]


@pytest.mark.parametrize("asked", ["@production", "owner:bea", "late", "name = 'churn'", "tags.owner = 'x'", "100%"])
def test_what_fits_nothing_says_so_and_offers_the_way_back(shelf: Shelf, asked: str) -> None:
    answer = shelf.enter("vera").get("/models/", {"q": asked})
    assert answer.status_code == 200
    assert "No model that you may see fits" in answer.content.decode()


@pytest.mark.parametrize(
    ("query", "field", "words"),
    [
        ({"q": "name >< 'x'"}, "q", "Invalid"),
        ({"q": "flavour = 'x'"}, "q", "Invalid attribute key"),
        ({"q": "x\0"}, "q", "at most"),
        ({"q": "a " * 9}, "q", "at most 8 words"),
        ({"sort": "size"}, "sort", "is no order"),
        ({"after": "bm90"}, "after", "begin at the first one"),
        ({"after": "é"}, "after", "begin at the first one"),
    ],
)
def test_a_search_that_cannot_be_read_is_told_beside_the_field(
    shelf: Shelf, query: dict[str, str], field: str, words: str
) -> None:
    answer = shelf.enter("vera").get("/models/", query)
    html = answer.content.decode()
    assert answer.status_code == 422
    assert words in html
    assert f'id="fault-{field}"' in html


@pytest.mark.parametrize("sort", ["name", "changed", "registered"])
def test_pages_neither_repeat_nor_lose_a_model_in_any_order(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch, sort: str
) -> None:
    monkeypatch.setattr(models_page, "PER_PAGE", 3)
    for number in range(10):
        model_register(actor=SYSTEM, name=f"m{number}", team="risk")
    seen, address = [], f"/models/?sort={sort}"
    vera = shelf.enter("vera")
    while True:
        html = vera.get(address).content.decode()
        seen += names(html)
        if 'rel="next"' not in html:
            break
        if len(seen) == 3:
            model_register(actor=SYSTEM, name="zz-came-between", team="risk")
        address = "/models/" + html.split('rel="next" href="')[1].split('"')[0].replace("&amp;", "&")
    assert len(seen) == len(set(seen))
    assert {"fraud", *(f"m{number}" for number in range(10))} <= set(seen)


def test_a_page_token_of_one_order_is_refused_in_another(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models_page, "PER_PAGE", 1)
    model_register(actor=SYSTEM, name="m", team="risk")
    html = shelf.enter("vera").get("/models/?sort=name").content.decode()
    token = html.split("after=")[1].split('"')[0]
    assert shelf.enter("vera").get(f"/models/?sort=changed&after={token}").status_code == 422


def test_prompts_and_deleted_models_are_left_out(shelf: Shelf) -> None:
    tags = {"mlflow.prompt.is_prompt": "true"}
    model_register(actor=SYSTEM, name="greeting", team="risk", tags=tags)
    model_register(actor=SYSTEM, name="gone", team="risk")
    model_delete(actor=SYSTEM, name="gone")
    vera = shelf.enter("vera")
    assert names(vera.get("/models/").content.decode()) == ["fraud"]
    asked = {"q": "tags.mlflow.prompt.is_prompt = 'true'"}
    assert names(vera.get("/models/", asked).content.decode()) == ["greeting"]


def test_who_may_not_register_finds_the_button_disabled_with_who_can(shelf: Shelf) -> None:
    assert "It needs the role engineer" in shelf.enter("vera").get("/models/").content.decode()
    assert 'href="/models/-/register/"' in shelf.enter("rosa").get("/models/").content.decode()


@pytest.mark.parametrize("name", ["register", "-", "-x", "a b", "ü", "100%", "what?", "imports"])
def test_a_model_of_any_legal_name_has_its_page(shelf: Shelf, name: str) -> None:
    model_register(actor=SYSTEM, name=name, team="risk")
    html = shelf.enter("vera").get("/models/").content.decode()
    address = "/models/" + html.split('data-href="/models/')[1].split('"')[0]
    assert Model.objects.filter(name=name).exists()
    assert shelf.enter("vera").get(address).status_code == 200
