"""Models and versions over /api/v1: found, tagged, staged, described, renamed, compared, deleted; what a pipeline that
does not speak MLflow needs."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.registry.models import Alias, Model, ModelVersion, VersionTag
from apps.registry.services import alias_rows
from apps.registry.services.aliases import alias_set
from apps.registry.services.catalogue import model_register, model_tag_set
from apps.registry.services.versions import Entry, version_create
from tests.api.conftest import Api, Caller
from tests.api.test_flow import rows_of_everything
from tests.api.world import World

pytestmark = pytest.mark.django_db
MODEL = "models/late-arrival"
VERSION = f"{MODEL}/versions/1.1.0"


@pytest.fixture
def alice(world: World, caller: Caller) -> Api:
    return caller("alice")


def code(answer: Any) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


def found(api: Api, place: str, **query: str) -> list[str]:
    """Names, or model and number of versions, page by page."""
    items, cursor = [], ""
    while True:
        asked = {**query, **({"cursor": cursor} if cursor else {})}
        answer = api.call("get", f"{place}?{urlencode(asked)}")
        assert answer.status_code == 200, answer.json()
        items += [one.get("name") or f"{one['model']} {one['number']}" for one in answer.json()["items"]]
        cursor = answer.json()["next_cursor"]
        if not cursor:
            return items


def entries() -> None:
    for name in ("a", "b", "c"):
        model_register(actor=SYSTEM, name=name, tags={"team": "x" if name != "b" else "y"})
        for number in (1, 2):
            entry = Entry(f"s3://{name}/{number}", run_id=f"run-{number}", tags={"n": str(number)})
            version_create(actor=SYSTEM, model_name=name, entry=entry)


def test_what_a_filter_finds_comes_in_the_order_asked_for_and_page_by_page(alice: Api) -> None:
    entries()
    assert found(alice, "models", filter="tags.team = 'x'", limit="1") == ["a", "c"]
    assert found(alice, "models", order_by="name DESC", limit="2") == ["late-arrival", "c", "b", "a"]
    assert found(alice, "models", filter="name ILIKE 'LATE%'") == ["late-arrival"]
    asked = {"filter": "run_id = 'run-2'", "order_by": "name DESC,version_number"}
    assert found(alice, "versions", **asked, limit="1") == ["c 2", "b 2", "a 2"]
    assert found(alice, "versions", filter="tags.n = '1' AND name IN ('a', 'c')", order_by="name") == ["a 1", "c 1"]
    assert found(alice, "models/b/versions", filter="version_number > 0", order_by="version_number") == ["b 1", "b 2"]
    assert found(alice, "models/b/versions") == ["b 2", "b 1"]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"filter": "name = late"}, "?filter"),
        ({"filter": "nonsense"}, "?filter"),
        ({"order_by": "size"}, "?order_by"),
        ({"filter": "name = 'a'", "cursor": "bm9uc2Vuc2U="}, "?cursor"),
        ({"cursor": "bm9uc2Vuc2U" * 300, "order_by": "name"}, "?cursor"),
    ],
)
@pytest.mark.parametrize("place", ["models", "versions", f"{MODEL}/versions"])
def test_a_search_that_cannot_be_read_names_its_parameter(
    alice: Api, place: str, query: dict[str, str], pointer: str
) -> None:
    answer = alice.call("get", f"{place}?{urlencode(query)}")
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)


def test_a_cursor_of_one_model_opens_no_page_of_another(alice: Api) -> None:
    entries()
    asked = urlencode({"order_by": "version_number", "limit": "1"})
    cursor = alice.call("get", f"models/a/versions?{asked}").json()["next_cursor"]
    assert alice.call("get", f"models/b/versions?{asked}&cursor={cursor}").status_code == 422
    assert alice.call("get", f"models/a/versions?{asked}&cursor={cursor}").status_code == 200


@pytest.mark.parametrize("place", [MODEL, VERSION])
def test_tags_are_set_shown_and_taken_away(alice: Api, place: str) -> None:
    for key, value in (("owner", "risk"), ("a/b: c", " kept as it is "), ("empty", "")):
        answer = alice.call("put", f"{place}/tags/{quote(key, safe='')}", {"value": value})
        assert (answer.status_code, answer.json()["value"]) == (200, value)
    assert alice.call("get", place).json()["tags"] == {"owner": "risk", "a/b: c": " kept as it is ", "empty": ""}
    before = rows_of_everything()
    rehearsed = alice.call("put", f"{place}/tags/owner?dry_run=true", {"value": "else"})
    assert (rehearsed.status_code, rehearsed["Dry-Run"]) == (200, "true")
    assert rows_of_everything() == before
    for _ in range(2):
        assert alice.call("delete", f"{place}/tags/owner").status_code == 204
    assert "owner" not in alice.call("get", place).json()["tags"]
    verbs = list(Event.objects.filter(verb__endswith="tagged").values_list("verb", flat=True))
    assert len(verbs) == 4, verbs


@pytest.mark.parametrize("key", ["../x", "a//b", "what?", "k" * 251])
def test_a_key_that_no_tag_has_is_refused(alice: Api, key: str) -> None:
    answer = alice.call("put", f"{MODEL}/tags/{quote(key, safe='')}", {"value": "x"})
    assert (answer.status_code, answer.json()["kind"]) == (422, "invalid")


def test_the_semver_tag_is_read_only_here_too(alice: Api) -> None:
    assert code(alice.call("put", f"{VERSION}/tags/pilothouse.semver", {"value": "9.9.9"})) == (422, "read_only")
    assert not VersionTag.objects.exists()


def test_a_model_is_described_and_renamed_by_who_saw_it(alice: Api) -> None:
    assert code(alice.call("patch", MODEL, {"description": "x"})) == (428, "if_match_required")
    tag = alice.call("get", MODEL)["ETag"]
    changed = alice.call("patch", MODEL, {"description": "Delays of flights."}, if_match=tag)
    assert (changed.status_code, changed.json()["description"]) == (200, "Delays of flights.")
    stale = alice.call("patch", MODEL, {"name": "else"}, if_match=tag)
    assert code(stale) == (412, "stale_revision")
    body = {"name": "delays", "description": "Of flights."}
    tag = changed["ETag"]
    rehearsed = alice.call("patch", f"{MODEL}?dry_run=true", body, if_match=tag)
    assert (rehearsed.status_code, Model.objects.get().name) == (200, "late-arrival")
    renamed = alice.call("patch", MODEL, body, if_match=tag)
    assert (renamed.json()["name"], renamed.json()["description"]) == ("delays", "Of flights.")
    assert alice.call("get", MODEL).status_code == 404
    assert alice.call("get", "models/delays", if_none_match=renamed["ETag"]).status_code == 304


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [({}, 422, ""), ({"name": "a/b"}, 422, "/name"), ({"name": "taken"}, 409, None), ({"colour": "x"}, 422, "/colour")],
)
def test_a_change_that_cannot_be_made_changes_nothing(alice: Api, body: Any, status: int, said: str | None) -> None:
    model_register(actor=SYSTEM, name="taken")
    before = rows_of_everything()
    answer = alice.call("patch", MODEL, {**body, **({"description": "x"} if body else {})}, if_match="*")
    assert answer.status_code == status
    if said is not None:
        assert answer.json()["errors"][0]["pointer"] == said
    assert rows_of_everything() == before
    assert Model.objects.get(name="late-arrival").description == ""


def test_a_version_is_described_by_who_saw_it(alice: Api) -> None:
    tag = alice.call("get", VERSION)["ETag"]
    changed = alice.call("patch", VERSION, {"description": "Better."}, if_match=tag)
    assert (changed.status_code, changed.json()["description"]) == (200, "Better.")
    assert code(alice.call("patch", VERSION, {"description": "Worse."}, if_match=tag)) == (412, "stale_revision")
    assert code(alice.call("delete", f"{VERSION}?reason=x", if_match=tag)) == (412, "stale_revision")
    assert alice.call("patch", VERSION, {"description": "Best."}, if_match=changed["ETag"]).status_code == 200


def test_stages_work_as_in_the_protocol(alice: Api) -> None:
    assert alice.call("put", f"{VERSION}/stage", {"stage": "production"}).json()["stage"] == "production"
    other = f"{MODEL}/versions/2.0.0/stage"
    assert code(alice.call("put", other, {"stage": "production"})) == (409, "stage_taken")
    archived = alice.call("put", other, {"stage": "production", "archive_existing": True})
    assert archived.json()["stage"] == "production"
    assert alice.call("get", VERSION).json()["stage"] == "archived"
    assert alice.call("put", other, {"stage": "Production"}).status_code == 422
    assert alice.call("put", other, {"stage": "none", "archive_existing": True}).status_code == 422


def test_a_deleted_version_keeps_its_number_and_what_runs_is_not_deleted(alice: Api) -> None:
    alias_set(actor=SYSTEM, model_name="late-arrival", alias="newest", number=3)
    assert alice.call("delete", f"{MODEL}/versions/2.0.0", if_match="*").status_code == 422  # a reason is missing
    answer = alice.call("delete", f"{MODEL}/versions/2.0.0?reason=broken", if_match="*")
    assert answer.status_code == 204
    assert alice.call("get", f"{MODEL}/versions/3").status_code == 404
    assert not Alias.objects.filter(name="newest").exists()
    assert Event.objects.get(verb="version.deleted").detail["reason"] == "broken"
    assert version_create(actor=SYSTEM, model_name="late-arrival", entry=Entry("s3://x")).number == 4
    assert code(alice.call("delete", f"{MODEL}/versions/1.0.0?reason=x", if_match="*")) == (422, "version_deployed")
    assert code(alice.call("delete", f"{MODEL}?reason=x", if_match="*")) == (422, "version_deployed")


def test_a_deleted_model_is_gone_and_its_numbers_are_not_given_again(alice: Api) -> None:
    entries()
    tag = alice.call("get", "models/a")["ETag"]
    model_tag_set(actor=SYSTEM, name="a", key="k", value="v")
    assert code(alice.call("delete", "models/a?reason=over", if_match=tag)) == (412, "stale_revision")
    assert alice.call("delete", "models/a?reason=over", if_match="*").status_code == 204
    assert alice.call("get", "models/a").status_code == 404
    assert ModelVersion.everything.filter(model__name="a").count() == 2
    model_register(actor=SYSTEM, name="a")
    assert version_create(actor=SYSTEM, model_name="a", entry=Entry("s3://x")).number == 3


def test_an_alias_is_taken_away_by_who_saw_it_and_a_protected_one_by_a_request(alice: Api) -> None:
    for alias in ("newest", "champion"):
        alias_set(actor=SYSTEM, model_name="late-arrival", alias=alias, number=2)
    place = f"{MODEL}/aliases/newest"
    assert code(alice.call("delete", f"{place}?expected_version=1.0.0")) == (409, "alias_moved")
    for _ in range(2):
        assert alice.call("delete", f"{place}?expected_version=1.1.0").status_code == 204
    assert alice.call("get", MODEL).json()["aliases"] == {"champion": "1.1.0"}
    asked = alice.call("delete", f"{MODEL}/aliases/champion")
    assert code(asked) == (403, "promotion_requested")
    assert alice.call("get", f"promotions/{asked.json()['request']}").json()["version"] is None
    assert alice.call("get", MODEL).json()["aliases"] == {"champion": "1.1.0"}


def test_computed_aliases_are_read_as_in_the_protocol(alice: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(alias_rows, "now", lambda: datetime(2026, 1, 1, tzinfo=UTC))
        alias_set(actor=SYSTEM, model_name="late-arrival", alias="gold", number=1)
    alias_set(actor=SYSTEM, model_name="late-arrival", alias="gold", number=3)
    known = {
        "latest": "2.0.0",
        "s1": "1.1.0",
        "s1-0": "1.0.0",
        "s2": "2.0.0",
        "gold": "2.0.0",
        "gold__at__20260202T000000Z": "1.0.0",
    }
    assert {one: alice.call("get", f"{MODEL}/versions/{one}").json()["version"] for one in known} == known
    for none in ("s3", "s1-7", "gold__at__20250101T000000Z", "gold__at__20261399T000000Z", "other"):
        assert alice.call("get", f"{MODEL}/versions/{none}").status_code == 404, none


def test_two_versions_are_compared_in_everything_that_is_known_of_them(alice: Api) -> None:
    stable = ModelVersion.objects.filter(number=1)
    stable.update(metrics={"auc": 0.8, "note": "x"}, params={"depth": 3}, metrics_data_digest="sha256:1")
    candidate = ModelVersion.objects.filter(number=3)
    candidate.update(metrics={"auc": 0.9, "f1": 0.5}, params={"depth": 3}, metrics_data_digest="sha256:1")
    alice.call("put", f"{MODEL}/versions/3/tags/owner", {"value": "risk"})
    told = alice.call("get", f"{MODEL}/compare?stable=1.0.0&candidate=latest").json()
    assert (told["is_drop_in"], told["is_same_artifact"], told["is_same_data"]) == (False, False, True)
    assert [one["name"] for one in told["inputs"] if not one["is_same"]] == ["tail"]
    metrics = {one["name"]: (one["stable"], one["candidate"], one["difference"]) for one in told["metrics"]}
    assert metrics.pop("auc") == (0.8, 0.9, pytest.approx(0.1))
    assert metrics == {"f1": (None, 0.5, None), "note": ("x", None, None)}
    assert told["params"] == [{"name": "depth", "stable": 3, "candidate": 3, "is_same": True}]
    assert told["tags"] == [{"name": "owner", "stable": None, "candidate": "risk", "is_same": False}]
    same = alice.call("get", f"{MODEL}/compare?stable=1&candidate=1").json()
    assert (same["is_drop_in"], same["is_same_artifact"]) == (True, True)
    assert all(one["is_same"] for side in ("inputs", "outputs", "metrics", "params") for one in same[side])


def test_a_list_of_models_costs_no_more_queries_for_more_of_them(
    alice: Api, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(30) as few:
        alice.call("get", "models")
    entries()
    with django_assert_max_num_queries(30) as many:
        assert len(alice.call("get", "models").json()["items"]) == 4
    with django_assert_max_num_queries(30) as searched:
        assert len(alice.call("get", "models?order_by=name").json()["items"]) == 4
    assert len(many) <= len(few) + 1
    assert len(searched) <= len(many) + 1
