"""One version: what is known of it, how its bytes stand, and what can be done to it."""

from __future__ import annotations

import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.test import Client

from apps.accounts.domain.roles import Role
from apps.accounts.models import User
from apps.accounts.services.tokens import token_make
from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.registry.domain.names import SEMVER_TAG
from apps.registry.models import Alias, ModelVersion, PromotionRequest
from apps.registry.services.aliases import alias_move
from apps.registry.services.verify_policy import format_rule_set
from apps.registry.services.versions import Entry, version_create, version_tag_set
from tests.api.world import World
from tests.registry.files import canary, has_sung
from tests.registry.trees import make_artifact
from tests.registry_web.conftest import Shelf, work
from tests.web.conftest import Browser

HERE = "/models/fraud/versions/1.1.0/"
POSTS = (
    ("describe", {"description": "x"}),
    ("stage", {"stage": "staging"}),
    ("promote", {"alias": "next"}),
    ("tag", {"key": "a", "value": "b"}),
    ("ingest", {"source": ""}),
    ("delete", {"confirm": "fraud 1.1.0"}),
)


def page(shelf: Shelf, reference: str = "1.1.0", who: str = "vera") -> str:
    return shelf.enter(who).get(f"/models/fraud/versions/{reference}/").content.decode()


def entered(shelf: Shelf, source: str, **how: object) -> ModelVersion:
    """A version as a training script of rosa's makes it, after the worker has looked."""
    made = version_create(actor=shelf.people["rosa"], model_name="fraud", entry=Entry(source=source, **how))  # type: ignore[arg-type]
    work()
    return ModelVersion.objects.get(pk=made.pk)


@pytest.mark.parametrize("reference", ["1.1.0", "2", "next"])
def test_a_version_is_found_by_semver_number_and_alias(shelf: Shelf, reference: str) -> None:
    alias_move(actor=SYSTEM, model_name="fraud", alias="next", version="1.1.0")
    assert '<h1 class="wrap">fraud 1.1.0</h1>' in page(shelf, reference)


@pytest.mark.parametrize("reference", ["9.9.9", "1.1", "v1.1.0", "99", "99999999999", "nobody", "%00", "1.1.0.0"])
def test_what_is_no_version_is_not_found(shelf: Shelf, reference: str) -> None:
    assert shelf.enter("vera").get(f"/models/fraud/versions/{reference}/").status_code == 404


@pytest.mark.parametrize(("verb", "body"), POSTS)
def test_a_foreign_version_does_not_exist(shelf: Shelf, verb: str, body: dict[str, str]) -> None:
    finn = shelf.enter("finn")
    assert finn.get(HERE).status_code == 404
    assert finn.get(f"{HERE}state/").status_code == 404
    assert finn.post(f"{HERE}{verb}/", body).status_code == 404


@pytest.mark.parametrize(("verb", "body"), POSTS)
def test_who_may_only_look_changes_nothing(shelf: Shelf, verb: str, body: dict[str, str]) -> None:
    answer = shelf.enter("vera").post(f"{HERE}{verb}/", body)
    assert answer.status_code == 403
    found = ModelVersion.objects.get(pk=shelf.versions["1.1.0"].pk)
    assert (found.stage, found.description) == ("none", "The 1.1.0 of it.")
    assert not Alias.objects.exists()


def test_signature_metrics_parameters_and_the_lines_that_load_it_stand_there(shelf: Shelf) -> None:
    html = page(shelf)
    for words in ("dep_delay", "double", "wind", "optional", "0.85", "depth", "mlflow.pyfunc.load_model(", "fraud/2"):
        assert words in html
    assert 'href="/models/fraud/compare/' not in html, "nothing is stable yet"
    alias_move(actor=SYSTEM, model_name="fraud", alias="champion", version="1.0.0")
    assert "Compare with 1.0.0" in page(shelf)
    assert "models:/fraud@champion" in page(shelf, "1.0.0")


def test_the_card_is_made_from_what_is_known_until_somebody_writes_one(shelf: Shelf) -> None:
    html = page(shelf)
    assert "nobody has written one yet" in html
    assert "<h3>Where it should not be used</h3>" in html
    ModelVersion.objects.filter(pk=shelf.versions["1.1.0"].pk).update(card="# Mine\n\n<script>x</script>")
    html = page(shelf)
    assert "nobody has written one yet" not in html
    assert "<h3>Mine</h3>" in html
    assert "<script>x" not in html


def test_a_catalogue_entry_says_that_nobody_saw_its_bytes_and_the_line_that_ingests_them(shelf: Shelf) -> None:
    made = entered(shelf, "s3://elsewhere/model")
    html = page(shelf, str(made.number))
    assert "unverified" in html
    assert "s3://elsewhere/model" in html
    assert f"/api/v1/models/fraud/versions/{made.number}/ingest" in html
    assert "cannot be deployed until they are here" in html


def test_a_logged_models_name_is_no_place_and_the_page_says_how_its_bytes_come_here(shelf: Shelf) -> None:
    made = entered(shelf, "models:/m-0123456789abcdef0123456789abcdef")
    html = page(shelf, str(made.number), "rosa")
    assert 'value="models:/m-' not in html, "a proposal that is always refused"
    assert "it does not say where the files lie" in html
    assert "uploads/fraud-v4/${file#./}" in html
    assert "artifact_location=" in html
    assert "It cannot be loaded: its bytes are not here." in html
    assert "mlflow.pyfunc.load_model(" not in html


def test_the_lines_on_the_page_bring_the_bytes_here(shelf: Shelf) -> None:
    """The paths are taken from the page's own lines and followed with one key, as curl would."""
    made = entered(shelf, "models:/m-0123456789abcdef0123456789abcdef")
    user = User.objects.get(username="rosa")
    _, key = token_make(actor=shelf.people["rosa"], user=user, label="ci", roles=frozenset({Role.ENGINEER}))
    lines = unescape(page(shelf, str(made.number), "rosa"))
    area = re.search(r'"source": "([^"]+)"', lines).group(1)  # type: ignore[union-attr]
    client = Client(headers={"Authorization": f"Bearer {key}"})
    folder = make_artifact(shelf.folder / "brought", weights=b"text\n")
    for file in [path for path in folder.rglob("*") if path.is_file()]:
        to = f"{urlsplit(area).path}/{file.relative_to(folder)}"
        assert client.put(to, file.read_bytes(), content_type="application/octet-stream").status_code == 200
    asked = re.search(r"-X POST (\S+)", lines).group(1)  # type: ignore[union-attr]
    answer = client.post(urlsplit(asked).path, {"source": area}, content_type="application/json")
    assert answer.status_code in {200, 202}, answer.content
    work()
    assert ModelVersion.objects.get(pk=made.pk).trust == "verified"


def test_what_is_known_of_an_unverified_version_stands_on_its_page(shelf: Shelf) -> None:
    known = {
        "run_id": "run-77", "run_link": "https://tracking.example.com/run-77", "mlflow_model_id": "m-77",
        "metrics": {"auc": 0.77}, "params": {"depth": "9"}, "tags": {SEMVER_TAG: "3.0.0"},
    }  # fmt: skip
    html = page(shelf, str(entered(shelf, "s3://elsewhere/model", **known).number))
    for said in ("run-77", "https://tracking.example.com/run-77", "m-77", "0.77", "depth", "3.0.0, once its signature"):
        assert said in html
    bare = page(shelf, str(entered(shelf, "s3://elsewhere/model", run_id="run-78").number))
    assert "those of its run stay with the tracking server" in bare


def test_a_version_is_written_in_one_way_with_a_v_before_a_bare_number(shelf: Shelf) -> None:
    made = entered(shelf, "s3://elsewhere/model")
    alias_move(actor=SYSTEM, model_name="fraud", alias="next", version=str(made.number))
    html = page(shelf, "4", "rosa")
    assert '<h1 class="wrap">fraud v4</h1>' in html
    assert '<h1 class="wrap">fraud 1.1.0</h1><span class="muted">v2</span>' in page(shelf)
    for path in ("/models/", "/models/fraud/", "/models/fraud/compare/?a=4&b=1.0.0"):
        text = re.sub(r"<[^>]+>", "\n", shelf.enter("rosa").get(path).content.decode())
        assert "v4" in text
        assert not re.search(r"^\s*4\s*$", text.replace("Versions\n4", ""), re.MULTILINE) or path == "/models/"
    answer = shelf.enter("rosa").post("/models/fraud/versions/4/delete/", {"confirm": "fraud v4"})
    assert answer.status_code == 302
    assert not ModelVersion.objects.filter(pk=made.pk).exists()


def test_bytes_are_ingested_from_an_upload_and_verified(shelf: Shelf) -> None:
    made = entered(shelf, "s3://elsewhere/model")
    rosa = shelf.enter("rosa")
    refused = rosa.post(f"/models/fraud/versions/{made.number}/ingest/", {"source": "s3://nowhere/x"})
    assert refused.status_code == 422
    assert 'id="fault-source"' in refused.content.decode()
    folder = make_artifact(shelf.folder / "home" / "artifacts" / "late", weights=b"text\n")
    asked = rosa.post(f"/models/fraud/versions/{made.number}/ingest/", {"source": str(folder)})
    assert asked.status_code == 302
    work()
    settled = ModelVersion.objects.get(pk=made.pk)
    assert settled.trust == "verified"
    html = page(shelf, settled.reference)
    assert (settled.status, settled.status_message) == ("ready", "")
    assert "kept in the store under its digest" in html
    assert "MLmodel" in html.split('id="files"')[1]


def test_a_version_that_is_being_checked_follows_by_itself(shelf: Shelf) -> None:
    folder = make_artifact(shelf.folder / "home" / "artifacts" / "fresh", weights=b"text\n")
    made = version_create(actor=shelf.people["rosa"], model_name="fraud", entry=Entry(source=str(folder)))
    vera = shelf.enter("vera")
    address = f"/models/fraud/versions/{made.number}/"
    assert "being checked" in vera.get(address).content.decode()
    assert 'data-every="2"' in vera.get(address).content.decode()
    assert "HX-Refresh" not in vera.get(f"{address}state/", headers={"HX-Request": "true"}).headers
    work()
    assert vera.get(f"{address}state/", headers={"HX-Request": "true"}).headers["HX-Refresh"] == "true"


def test_a_refused_pickle_shows_why_and_never_runs(shelf: Shelf) -> None:
    folder = make_artifact(shelf.folder / "home" / "artifacts" / "bad", weights=canary(shelf.folder))
    made = entered(shelf, str(folder))
    html = page(shelf, str(made.number))
    assert "refused" in html
    assert "no policy lets that in" in html
    assert "It can never be deployed" in html
    assert not has_sung(shelf.folder)


def test_an_allowed_pickle_shows_its_imports(shelf: Shelf) -> None:
    import collections
    import pickle

    format_rule_set(actor=SYSTEM, scope="model", name="fraud", allow_pickle=True, reason="old models")
    content = pickle.dumps(collections.OrderedDict(a=1))
    folder = make_artifact(shelf.folder / "home" / "artifacts" / "pickled", weights=content)
    made = entered(shelf, str(folder))
    html = page(shelf, made.reference)
    assert "What loading it runs" in html
    assert "collections.OrderedDict" in html
    assert "▲</i>pickle" in html


def test_a_stage_is_set_and_production_holds_one(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    assert rosa.post(f"{HERE}stage/", {"stage": "production"}).status_code == 302
    taken = rosa.post("/models/fraud/versions/1.0.0/stage/", {"stage": "production"})
    assert taken.status_code == 409
    assert "holds one version" in taken.content.decode()
    rosa.post("/models/fraud/versions/1.0.0/stage/", {"stage": "production", "archive": "1"})
    assert ModelVersion.objects.get(pk=shelf.versions["1.1.0"].pk).stage == "archived"
    bad = rosa.post(f"{HERE}stage/", {"stage": "moon"})
    assert bad.status_code == 422
    assert 'id="fault-stage"' in bad.content.decode()


def test_an_alias_is_moved_here_and_a_protected_one_asked_for(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    rosa.post(f"{HERE}promote/", {"alias": "champion", "expected-champion": ""})
    assert Alias.objects.get(name="champion").version.semver == "1.1.0"
    answer = rosa.post("/models/fraud/versions/1.0.0/promote/", {"alias": "champion", "expected-champion": "1.1.0"})
    request = PromotionRequest.objects.get()
    assert answer.headers["Location"] == f"/models/promotions/{request.pk}/"
    stale = rosa.post("/models/fraud/versions/1.0.0/promote/", {"alias": "champion", "expected-champion": "2.0.0"})
    assert stale.status_code == 409
    assert "look again" in stale.content.decode()


def test_description_and_tags_are_changed_by_the_services_and_audited(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    rosa.post(f"{HERE}describe/", {"description": "Better *now*."})
    rosa.post(f"{HERE}tag/", {"key": "risk", "value": "low"})
    html = page(shelf)
    assert "<em>now</em>" in html
    assert "low" in html
    rosa.post(f"{HERE}tag/", {"key": "risk", "remove": "1"})
    verbs = list(Event.objects.filter(actor_label="rosa").order_by("pk").values_list("verb", flat=True))
    assert verbs == ["version.described", "version.tagged", "version.untagged"]
    refused = rosa.post(f"{HERE}tag/", {"key": "pilothouse.semver", "value": "9.0.0"})
    assert refused.status_code == 422
    assert "read-only" in refused.content.decode()


def test_deleting_takes_the_typed_name_and_never_gives_the_number_again(shelf: Shelf) -> None:
    rosa = shelf.enter("rosa")
    assert rosa.post(f"{HERE}delete/", {"confirm": "1.1.0"}).status_code == 422
    assert rosa.post(f"{HERE}delete/", {"confirm": "fraud 1.1.0"}).status_code == 302
    assert rosa.get(HERE).status_code == 404
    assert ModelVersion.everything.filter(pk=shelf.versions["1.1.0"].pk, deleted_at__isnull=False).exists()


def test_a_version_that_an_endpoint_runs_is_not_deleted_and_the_place_is_named(world: World, browser: Browser) -> None:
    alice = browser("alice")
    address = "/models/late-arrival/versions/1.0.0/"
    html = alice.get(address).content.decode()
    assert "It runs on late-arrival" in html
    answer = alice.post(f"{address}delete/", {"confirm": "late-arrival 1.0.0"})
    assert answer.status_code == 422
    assert "late-arrival 1.0.0 runs on late-arrival" in answer.content.decode()
    assert (
        alice.post("/models/late-arrival/versions/2.0.0/delete/", {"confirm": "late-arrival 2.0.0"}).status_code == 302
    )


def test_evaluations_lineage_and_the_data_of_the_metrics_are_shown(shelf: Shelf) -> None:
    ModelVersion.objects.filter(pk=shelf.versions["1.1.0"].pk).update(
        evaluations=[{"name": "auc at least", "verdict": "pass", "value": 0.85, "limit": 0.8}],
        lineage={"table": "payments@42"},
        metrics_data_digest="sha256:" + "ab" * 32,
        git_commit="0123abcd",
        parent=shelf.versions["1.0.0"],
    )
    html = page(shelf)
    for words in ("auc at least", "payments@42", "abababababab", "0123abcd", "fraud 1.0.0", "Compare with 1.0.0"):
        assert words in html


def test_hostile_texts_of_a_training_script_are_escaped(shelf: Shelf, tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>"
    made = entered(shelf, "s3://x/" + bad, description=bad, run_link="javascript:alert(1)", params={bad: bad})
    version_tag_set(actor=SYSTEM, model_name="fraud", number=made.number, key="k", value=bad)
    html = page(shelf, str(made.number))
    assert "<script>alert" not in html
    assert 'href="javascript' not in html
    assert json.dumps(bad) not in html
