"""Two teams, red and blue, and every route: what belongs to the other team is exactly like what does not exist."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from django.urls import URLPattern

from apps.accounts.domain.roles import Role
from apps.accounts.models import Membership, Team
from apps.accounts.services.access import actor_of
from apps.accounts.services.tokens import token_make
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.errors import Forbidden
from apps.registry.api import urls
from apps.registry.api.mlflow.dispatch import CALLS
from apps.registry.api.mlflow.door import forget_keys
from apps.registry.models import Model, ModelVersion, PromotionRequest, Webhook, WebhookDelivery
from apps.registry.services.aliases import alias_set
from apps.registry.services.catalogue import model_register
from apps.registry.services.importing import import_create
from apps.registry.services.promotion import PromotionAsked
from apps.registry.services.verify_policy import format_rule_set
from apps.registry.services.versions import Entry, version_create
from apps.registry.services.webhooks import Change, webhook_create
from tests.cast import make_user
from tests.registry.files import entered
from tests.registry.trees import make_artifact

pytestmark = pytest.mark.django_db
BOTH = frozenset({Role.ENGINEER, Role.ADMIN})
CREATED = {"entity": "registered_model", "action": "created"}


class Person:
    """Of one team, calling by a key; answers are (status, JSON)."""

    def __init__(self, name: str, team: str, roles: frozenset[Role] = BOTH) -> None:
        self.name, self.team = name, Team.objects.get(slug=team)
        user = make_user(name, roles, team=self.team)
        self.actor: Actor = actor_of(user)
        _, text = token_make(actor=self.actor, user=user, label="tests", roles=roles)
        self.headers = {"Authorization": f"Bearer {text}"}

    def call(self, method: str, path: str, body: Any = None, query: Any = None, headers: Any = None) -> tuple[int, Any]:
        data, sending = b"" if body is None else json.dumps(body).encode(), {**self.headers, **(headers or {})}
        sent = Client().generic(method, path, data, "application/json", headers=sending, query_params=query)
        return sent.status_code, json.loads(sent.getvalue() or b"null")

    def mlflow(self, method: str, path: str, fields: Any) -> tuple[int, Any]:
        query = fields if method == "GET" else None
        return self.call(method, f"/api/2.0/mlflow/{path}", None if method == "GET" else fields, query)


class Red:
    """What the red team has: a model with two versions, aliases, a promotion request, a webhook, an import, a rule."""

    def __init__(self, rita: Person) -> None:
        rita_ = rita.actor
        model_register(actor=rita_, name="red model", tags={"k": "v"})
        for source in ("s3://1", "s3://2"):
            version_create(actor=rita_, model_name="red model", entry=Entry(source, run_id="r1", tags={"k": "v"}))
        for alias in ("a", "champion"):
            alias_set(actor=rita_, model_name="red model", alias=alias, number=1)
        with pytest.raises(PromotionAsked):
            alias_set(actor=rita_, model_name="red model", alias="champion", number=2)
        change = Change(name="hook", url="https://hooks.example.com/", events=[CREATED], secret="s")
        self.hook = webhook_create(actor=rita_, change=change).pk
        self.request = PromotionRequest.objects.get().pk
        self.job = import_create(actor=rita_, url="https://mlflow.example.com").pk
        format_rule_set(actor=rita_, scope="model", name="red model", allow_pickle=False, reason="")


@pytest.fixture(autouse=True)
def _fresh(settings: Any, tmp_path: Path) -> Iterator[None]:
    settings.PILOTHOUSE_HOME = tmp_path / "home"
    settings.PILOTHOUSE_ARTIFACT_STORE = str(tmp_path / "home" / "artifacts")
    settings.PILOTHOUSE_ARTIFACT_SOURCES = ((tmp_path / "shared").as_uri(),)
    forget_keys()
    for slug in ("red", "blue"):
        Team.objects.create(slug=slug, name=slug)
    yield
    forget_keys()


@pytest.fixture
def rita(_fresh: None) -> Person:
    return Person("rita", "red")


@pytest.fixture
def bert(_fresh: None) -> Person:
    return Person("bert", "blue")


@pytest.fixture
def red(rita: Person) -> Red:
    return Red(rita)


def state() -> tuple[int, ...]:
    return tuple(kind.objects.count() for kind in (Model, ModelVersion, Webhook, PromotionRequest, Event))


def fields_of(name: str) -> dict[str, Any]:
    """Enough for every call of the protocol."""
    return {
        "name": name,
        "version": "2",
        "new_name": "another",
        "key": "k",
        "value": "w",
        "source": "s3://3",
        "alias": "a",
        "stage": "Staging",
        "description": "words",
    }


HOOK = {
    "name": "other",
    "url": "https://hooks.example.com/2",
    "events": [{"entity": "MODEL_VERSION", "action": "CREATED"}],
}
WHOLE = {"registered-models/search", "model-versions/search", "registered-models/create", "webhooks"}
ONE = sorted(key for key in CALLS if key[1] not in WHOLE)


@pytest.mark.parametrize("call", ONE)
def test_a_foreign_model_is_like_none_at_every_call(red: Red, bert: Person, call: tuple[str, str]) -> None:
    method, path = call
    before = state()
    if "{id}" in path:
        foreign = bert.mlflow(method, path.replace("{id}", red.hook), HOOK if method == "PATCH" else {})
        nothing = bert.mlflow(method, path.replace("{id}", "wh_0"), HOOK if method == "PATCH" else {})
        told = json.dumps(foreign[1]).replace(red.hook, "wh_0")
    else:
        foreign = bert.mlflow(method, path, fields_of("red model"))
        nothing = bert.mlflow(method, path, fields_of("no model"))
        told = json.dumps(foreign[1]).replace("red model", "no model")
    assert (foreign[0], foreign[1]["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert (foreign[0], json.loads(told)) == nothing
    assert state() == before


@pytest.mark.parametrize("call", ONE)
def test_ones_own_team_is_answered_at_every_call(red: Red, rita: Person, call: tuple[str, str]) -> None:
    method, path = call
    if call == ("DELETE", "registered-models/delete"):
        status, answer = rita.mlflow(method, path, fields_of("red model"))
        assert (status, answer["error_code"]) == (400, "INVALID_PARAMETER_VALUE")
        assert "champion" in answer["message"]
        return
    fields = HOOK if "{id}" in path and method == "PATCH" else fields_of("red model")
    assert rita.mlflow(method, path.replace("{id}", red.hook), {} if path.endswith("test") else fields)[0] == 200


def test_searches_hold_ones_own_teams_models_only(red: Red, rita: Person, bert: Person) -> None:
    model_register(actor=bert.actor, name="blue model")
    found = {
        person.name: [
            one["name"] for one in person.mlflow("GET", "registered-models/search", {})[1]["registered_models"]
        ]
        for person in (rita, bert)
    }
    assert found == {"rita": ["red model"], "bert": ["blue model"]}
    for text in ("", "name = 'red model'", "run_id = 'r1'", "tags.k = 'v'"):
        asked = {"filter": text}
        assert len(rita.mlflow("GET", "model-versions/search", asked)[1]["model_versions"]) == 2
        assert bert.mlflow("GET", "model-versions/search", asked) == (200, {"model_versions": []})
    assert rita.mlflow("GET", "webhooks", {})[1]["webhooks"][0]["name"] == "hook"
    assert bert.mlflow("GET", "webhooks", {}) == (200, {"webhooks": []})


def test_a_name_that_another_team_holds_is_taken_without_a_word_about_it(red: Red, bert: Person) -> None:
    before = state()
    taken = (
        400,
        {"error_code": "RESOURCE_ALREADY_EXISTS", "message": "Registered Model (name=red model) already exists."},
    )
    assert bert.mlflow("POST", "registered-models/create", {"name": "red model"}) == taken
    bert.mlflow("POST", "registered-models/create", {"name": "blue model"})
    asked = {"name": "blue model", "new_name": "red model"}
    assert bert.mlflow("POST", "registered-models/rename", asked) == taken
    assert Model.objects.get(name="blue model").team == bert.team
    assert state()[0] == before[0] + 1


@pytest.mark.parametrize("source", ["models:/red model/1", "models:/red model@a"])
def test_a_foreign_version_cannot_be_copied(red: Red, bert: Person, source: str) -> None:
    model_register(actor=bert.actor, name="blue model")
    status, answer = bert.mlflow("POST", "model-versions/create", {"name": "blue model", "source": source})
    assert (status, answer["error_code"]) == (404, "RESOURCE_DOES_NOT_EXIST")
    assert not ModelVersion.objects.filter(model__name="blue model").exists()


def test_who_may_look_but_not_act_is_told_who_can(red: Red, rita: Person) -> None:
    vera = Person("vera", "red", frozenset({Role.VIEWER}))
    assert vera.mlflow("GET", "registered-models/get", {"name": "red model"})[0] == 200
    # Rights in another team are none here.
    user = make_user("carl", BOTH, team=Team.objects.get(slug="blue"))
    Membership.objects.create(user=user, team=rita.team, role=Role.VIEWER)
    for actor in (vera.actor, actor_of(user)):
        with pytest.raises(Forbidden, match=r"needs the role engineer.* rita can do it"):
            alias_set(actor=actor, model_name="red model", alias="b", number=1)
    status, answer = vera.mlflow("POST", "registered-models/set-tag", fields_of("red model"))
    assert (status, answer["error_code"]) == (403, "PERMISSION_DENIED")


def test_webhooks_hear_of_their_teams_models_and_an_admin_of_all_of_every(red: Red, bert: Person) -> None:
    change = Change(name="all", url="https://hooks.example.com/all", events=[CREATED])
    everywhere = webhook_create(actor=SYSTEM, change=change)
    WebhookDelivery.objects.all().delete()
    model_register(actor=bert.actor, name="blue model")
    assert [one.webhook_id for one in WebhookDelivery.objects.all()] == [everywhere.pk]
    assert bert.mlflow("GET", f"webhooks/{everywhere.pk}", {})[0] == 404


ANY: dict[str, Any] = {"headers": {"If-Match": "*"}}
V1: dict[tuple[str, str], dict[str, Any]] = {
    ("GET", "models/{m}"): {},
    ("PATCH", "models/{m}"): {"body": {"name": "green model"}, **ANY},
    ("DELETE", "models/{m}"): {"query": {"reason": "over"}, **ANY},
    ("PUT", "models/{m}/tags/k"): {"body": {"value": "w"}},
    ("DELETE", "models/{m}/tags/k"): {},
    ("PATCH", "models/{m}/versions/2"): {"body": {"description": "words"}, **ANY},
    ("DELETE", "models/{m}/versions/2"): {"query": {"reason": "over"}, **ANY},
    ("PUT", "models/{m}/versions/2/stage"): {"body": {"stage": "staging"}},
    ("PUT", "models/{m}/versions/2/tags/k"): {"body": {"value": "w"}},
    ("DELETE", "models/{m}/versions/2/tags/k"): {},
    ("DELETE", "models/{m}/aliases/a"): {},
    ("GET", "models/{m}/compare"): {"query": {"stable": "1", "candidate": "2"}},
    ("GET", "models/{m}/versions"): {},
    ("POST", "models/{m}/versions"): {"body": {"version": "1.0.0", "path": "/nowhere"}},
    ("GET", "models/{m}/versions/1"): {},
    ("GET", "models/{m}/versions/1/card"): {},
    ("PUT", "models/{m}/versions/1/card"): {"body": {"card": "# Mine"}},
    ("PUT", "models/{m}/protected-aliases"): {"body": {"aliases": ["gold"], "reason": "a test"}},
    ("GET", "models/{m}/aliases/a"): {},
    ("PUT", "models/{m}/aliases/a"): {"body": {"version": "2"}},
    ("GET", "models/{m}/aliases/a/moves"): {},
    ("POST", "models/{m}/versions/1/ingest"): {"body": {"source": ""}},
    ("PUT", "format-rules"): {"body": {"scope": "model", "name": "{m}", "allow_pickle": False}},
    ("GET", "promotions/{pr}"): {},
    ("POST", "promotions/{pr}/withdraw"): {"body": {}},
    ("GET", "imports/{im}"): {},
    ("POST", "imports/{im}/run"): {},
    ("POST", "imports/{im}/stop"): {},
}
LISTS = ("models", "promotions", "imports", "format-rules")
GONE = {call: 204 for call in V1 if call[0] == "DELETE"}
OTHERWISE = {
    **GONE,
    ("DELETE", "models/{m}"): 422,  # a protected alias points at one of its versions
    ("POST", "models/{m}/versions"): 422,  # there is no such path
    ("POST", "models/{m}/versions/1/ingest"): 422,  # s3 is not read from here
    ("POST", "imports/{im}/run"): 202,
}


def filled(text: str, red: Red, *, is_foreign: bool) -> str:
    real = {"{m}": "red model", "{pr}": red.request, "{im}": red.job}
    for mark, value in real.items():
        text = text.replace(mark, value if is_foreign else {"{m}": "no model", "{pr}": "pr_0", "{im}": "im_0"}[mark])
    return text


def v1(person: Person, red: Red, call: tuple[str, str], *, is_real: bool = True) -> tuple[int, Any]:
    how = json.loads(filled(json.dumps(V1[call]), red, is_foreign=is_real))
    return person.call(call[0], f"/api/v1/{filled(call[1], red, is_foreign=is_real)}", **how)


@pytest.mark.parametrize("call", sorted(V1))
def test_the_api_shows_nothing_of_another_team(red: Red, bert: Person, call: tuple[str, str]) -> None:
    before = state()
    foreign, nothing = v1(bert, red, call), v1(bert, red, call, is_real=False)
    assert foreign[0] == nothing[0] == 404
    told = json.dumps({key: foreign[1].get(key) for key in ("code", "title", "detail")})
    for real, none in (("red model", "no model"), (red.request, "pr_0"), (red.job, "im_0")):
        told = told.replace(real, none)
    assert json.loads(told) == {key: nothing[1].get(key) for key in ("code", "title", "detail")}
    assert state() == before


@pytest.mark.parametrize("call", sorted(V1))
def test_the_api_answers_ones_own_team(red: Red, rita: Person, call: tuple[str, str]) -> None:
    status, answer = v1(rita, red, call)
    assert status == OTHERWISE.get(call, 200), answer


def test_a_filter_finds_ones_own_teams_only(red: Red, rita: Person, bert: Person) -> None:
    for place, found in (("models", 1), ("versions", 2)):
        for text in ("tags.k = 'v'", "name = 'red model'", "name LIKE '%'"):
            for person, count in ((rita, found), (bert, 0)):
                status, answer = person.call("GET", f"/api/v1/{place}", query={"filter": text})
                assert (status, len(answer["items"])) == (200, count), (place, text)
    assert len(rita.call("GET", "/api/v1/versions")[1]["items"]) == 2
    assert bert.call("GET", "/api/v1/versions")[1]["items"] == []


@pytest.mark.parametrize("place", LISTS)
def test_the_lists_of_the_api_hold_ones_own_team_only(red: Red, rita: Person, bert: Person, place: str) -> None:
    assert len(rita.call("GET", f"/api/v1/{place}")[1]["items"]) == 1
    assert bert.call("GET", f"/api/v1/{place}")[1]["items"] == []


def test_something_new_belongs_to_the_team_that_is_named(red: Red, rita: Person, bert: Person) -> None:
    status, made = bert.call("POST", "/api/v1/models", {"name": "blue", "team": "blue"})
    assert (status, made["team"]) == (201, "blue")
    assert bert.call("POST", "/api/v1/models", {"name": "blue-2", "team": "red"})[0] == 404
    status, job = bert.call("POST", "/api/v1/imports", {"url": "https://other.example.com"})
    assert (status, job["team"]) == (201, "blue")
    status, told = bert.call("POST", "/api/v1/imports", {"url": "https://third.example.com", "team": "red"})
    assert (status, told["errors"][0]["pointer"]) == (422, "/team")
    status, told = bert.call("PUT", "/api/v1/format-rules", {"scope": "all", "allow_pickle": True, "reason": "x"})
    assert status == 403


def test_every_route_of_the_registry_stands_in_the_table() -> None:
    known = {(method, _shape(path)) for method, path in V1}
    known |= {("GET", place) for place in (*LISTS, "versions")} | {("POST", "models"), ("POST", "imports")}
    routed = set()
    for route in urls.urlpatterns:
        assert isinstance(route, URLPattern)
        view = route.callback.view_class  # type: ignore[attr-defined]
        for method in ("get", "post", "put", "patch", "delete"):
            if hasattr(view, method):
                routed.add((method.upper(), _shape(str(route.pattern))))
    assert routed == known


def _shape(path: str) -> str:
    """Every part that names one thing, as ``*``."""
    fixed = {"models", "versions", "aliases", "compare", "moves", "ingest", "promotions", "withdraw", "imports"}
    fixed |= {"tags", "stage"}
    return "/".join(part if part in fixed | {"run", "stop", "format-rules"} else "*" for part in path.split("/"))


def test_files_are_handed_to_the_team_of_a_version_that_has_them(rita: Person, bert: Person, tmp_path: Path) -> None:
    model_register(actor=rita.actor, name="red model")
    version = entered(rita.actor, str(make_artifact(tmp_path / "shared" / "m")), name="red model")
    digest = version.artifact_digest.removeprefix("sha256:")
    base = "/api/2.0/mlflow-artifacts/artifacts"
    for person, expected in ((rita, 200), (bert, 404)):
        assert person.call("GET", base, query={"path": digest})[0] == expected
        assert Client().get(f"{base}/{digest}/MLmodel", headers=person.headers).status_code == expected
    model_register(actor=bert.actor, name="blue model")
    entered(bert.actor, str(tmp_path / "shared" / "m"), name="blue model")
    assert bert.call("GET", base, query={"path": digest})[0] == 200
