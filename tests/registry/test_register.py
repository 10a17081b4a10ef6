"""Registering, finding and verifying versions, on a real database."""

from __future__ import annotations

import pickle
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from apps.audit.models import Event
from apps.audit.selectors import chain_first_bad
from apps.kernel.errors import Conflict, DomainError, InvalidInput, NotFound, PolicyRefused
from apps.registry import selectors
from apps.registry.models import Model, ModelVersion
from apps.registry.services.register import alias_move, model_create, version_register
from apps.registry.services.verify import artifact_check
from apps.registry.services.verify_policy import format_rule_set
from tests.cast import make_actor
from tests.registry.files import canary, has_sung
from tests.registry.trees import INPUTS, make_artifact

pytestmark = pytest.mark.django_db


class House:
    """Alice and a model ``late``; ``register("1.0.0")`` makes an artifact of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.alice = make_actor("alice")
        self.model = model_create(actor=self.alice, name="late", description="will it be late?")

    def register(self, semver: str, **how: Any) -> ModelVersion:
        path = self.folder / semver
        if not path.exists():
            make_artifact(path, weights=semver.encode(), **how)
        return version_register(actor=self.alice, model_name="late", semver=semver, path=path, metrics={"auc": 0.9})


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_a_version_keeps_what_was_registered(house: House) -> None:
    version = house.register("1.0.0")
    found = selectors.version_get(version.id)
    assert (found.number, found.semver, found.variant_key) == (1, "1.0.0", "v1-0-0")
    assert found.source_uri == (house.folder / "1.0.0").as_uri()
    assert found.artifact_digest.startswith("sha256:")
    assert found.metrics == {"auc": 0.9}
    assert found.created_by == "alice"
    event = Event.objects.get(verb="version.registered")
    assert (event.subject_label, event.actor_label) == ("late 1.0.0", "alice")
    assert event.detail["digest"] == found.artifact_digest
    assert event.request_id == "request-of-alice"


def test_numbers_are_dense_even_when_registrations_fail_in_between(house: House) -> None:
    house.register("1.0.0")
    with pytest.raises(Conflict):
        house.register("1.0.0")
    with pytest.raises(PolicyRefused):
        house.register("1.1.0", inputs=[*INPUTS, {"type": "long", "name": "new", "required": True}])
    assert [house.register(text).number for text in ("1.0.1", "1.2.0")] == [2, 3]


@pytest.mark.django_db(transaction=True)
def test_eight_racing_registrations_get_numbers_one_to_eight(tmp_path: Path) -> None:
    house = House(tmp_path)
    gate, faults = threading.Barrier(8), []

    def register(minor: int) -> None:
        try:
            gate.wait(30)
            house.register(f"1.{minor}.0")
        except BaseException as fault:  # noqa: BLE001  (handed to the test below)
            faults.append(fault)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=register, args=(minor,)) for minor in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert faults == []
    assert sorted(ModelVersion.objects.values_list("number", flat=True)) == list(range(1, 9))
    assert chain_first_bad() is None


def test_a_registered_version_never_changes(house: House) -> None:
    first = house.register("1.0.0")
    with pytest.raises(Conflict) as refused:
        house.register("1.0.0")
    assert refused.value.code == "version_exists"
    assert refused.value.extra == {"version": first.id, "is_same_artifact": True}


def test_a_schema_change_needs_a_major_version_and_then_is_no_drop_in(house: House) -> None:
    stable = house.register("1.0.0")
    changed = [{"type": "long", "name": "wind", "required": True}, *INPUTS]
    with pytest.raises(PolicyRefused) as refused:
        house.register("1.1.0", inputs=changed)
    assert refused.value.code == "major_bump_required"
    assert refused.value.fields[0].pointer == "/signature/inputs/wind"
    candidate = house.register("2.0.0", inputs=changed)
    assert [str(one) for one in selectors.drop_in_problems(stable, candidate)] == [
        "Input 'wind' (long) is new and required."
    ]
    assert selectors.drop_in_problems(candidate, stable) == []


def test_versions_are_found_by_semver_number_and_alias(house: House) -> None:
    first, second = house.register("1.0.0"), house.register("1.1.0")
    alias_move(actor=house.alice, model_name="late", alias="champion", version="1.0.0")
    for reference, expected in (("1.1.0", second), ("2", second), ("champion", first)):
        assert selectors.version_by("late", reference) == expected
    assert selectors.version_list("late") == [second, first]
    assert [model.name for model in selectors.model_list()] == ["late"]
    for reference in ("9.9.9", "9", "99999999999999999999", "nobody", "v1.0.0", "1.0", "", "²"):
        with pytest.raises(NotFound):
            selectors.version_by("late", reference)
    with pytest.raises(NotFound):
        selectors.version_by("other", "1")
    with pytest.raises(NotFound):
        selectors.version_get("mv_x")


def test_listing_models_takes_the_same_queries_for_one_and_for_many(
    house: House, django_assert_num_queries: Any
) -> None:
    house.register("1.0.0")
    for name in ("b", "c", "d"):
        model_create(actor=house.alice, name=name)
    with django_assert_num_queries(3):
        for model in selectors.model_list():
            [str(version) for version in model.versions.all()]
            [alias.version.semver for alias in model.aliases.all()]


def test_an_alias_moves_once_and_tells_from_where_to_where(house: House) -> None:
    house.register("1.0.0")
    house.register("1.1.0")

    def move(version: str, **how: Any) -> str:
        return alias_move(actor=house.alice, model_name="late", alias="blue", version=version, **how).version.semver

    assert [move("1.0.0", expected=""), move("1.0.0"), move("1.1.0", expected="1.0.0")] == ["1.0.0", "1.0.0", "1.1.0"]
    moves = Event.objects.filter(verb="alias.moved").order_by("seq")
    assert [(one.detail["before"], one.detail["after"]) for one in moves] == [("", "1.0.0"), ("1.0.0", "1.1.0")]
    with pytest.raises(Conflict) as refused:
        move("1.0.0", expected="1.0.0")
    assert refused.value.extra["current"] == "1.1.0"
    assert [alias.name for alias in selectors.alias_list("late")] == ["blue"]


@pytest.mark.parametrize("alias", ["1", "v2", "1.0.0", "Champion", "", "a b", "x" * 81])
def test_an_alias_that_could_be_taken_for_a_version_is_refused(house: House, alias: str) -> None:
    house.register("1.0.0")
    with pytest.raises(InvalidInput) as refused:
        alias_move(actor=house.alice, model_name="late", alias=alias, version="1.0.0")
    assert refused.value.fields[0].pointer == "/alias"


@pytest.mark.parametrize(
    ("change", "error", "code"),
    [
        ({"model_name": "unknown"}, NotFound, "model_unknown"),
        ({"semver": "1.0"}, InvalidInput, "bad_semver"),
        ({"path": "/nowhere/at/all"}, InvalidInput, "artifact_missing"),
        ({"metrics": {"auc": float("nan")}}, InvalidInput, "not_json"),
        ({"params": {"made_by": object()}}, InvalidInput, "not_json"),
    ],
)
def test_bad_input_is_refused_and_leaves_nothing(
    house: House, tmp_path: Path, change: dict[str, Any], error: type[DomainError], code: str
) -> None:
    good = {"model_name": "late", "semver": "1.0.0", "path": make_artifact(tmp_path / "m")}
    with pytest.raises(error) as refused:
        version_register(actor=house.alice, **{**good, **change})
    assert refused.value.code == code
    assert not ModelVersion.objects.exists()
    assert Model.objects.get().next_number == 1


@pytest.mark.parametrize("name", ["", "a b", "-a", "a/b", "ä", "x" * 101, "a\n"])
def test_a_model_name_that_breaks_addresses_is_refused(house: House, name: str) -> None:
    with pytest.raises(InvalidInput):
        model_create(actor=house.alice, name=name)


def test_a_model_name_is_given_once(house: House) -> None:
    with pytest.raises(Conflict) as refused:
        model_create(actor=house.alice, name="late")
    assert refused.value.code == "model_exists"
    assert Event.objects.filter(verb="model.created").count() == 1


def test_an_untouched_artifact_passes_and_a_touched_one_is_refused(house: House) -> None:
    version = house.register("1.0.0")
    artifact_check(version)
    (house.folder / "1.0.0" / "model.skops").write_bytes(b"other weights")
    with pytest.raises(PolicyRefused) as refused:
        artifact_check(version)
    assert refused.value.code == "digest_mismatch"
    assert version.artifact_digest in refused.value.detail


def test_an_artifact_that_is_gone_is_refused(house: House) -> None:
    version = house.register("1.0.0")
    shutil.rmtree(house.folder / "1.0.0")
    with pytest.raises(PolicyRefused) as refused:
        artifact_check(version)
    assert refused.value.code == "artifact_missing"
    assert str(house.folder / "1.0.0") in refused.value.detail


def test_a_link_put_into_a_registered_artifact_is_a_changed_artifact(house: House) -> None:
    version = house.register("1.0.0")
    (house.folder / "1.0.0" / "extra").symlink_to("/etc/hostname")
    with pytest.raises(PolicyRefused) as refused:
        artifact_check(version)
    assert refused.value.code == "digest_mismatch"


def test_a_pickle_at_a_path_is_refused_by_the_models_rule_and_never_runs(house: House, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "bad", weights=canary(tmp_path))
    with pytest.raises(PolicyRefused, match=r"model\.skops is a pickle that reaches for posix\.system") as refused:
        version_register(actor=house.alice, model_name="late", semver="1.0.0", path=folder)
    assert refused.value.code == "format_refused"
    assert not ModelVersion.objects.exists()
    assert not has_sung(tmp_path)


def test_an_ordinary_pickle_at_a_path_needs_a_rule_and_shows_its_imports(house: House, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "old", weights=pickle.dumps(Path("x")))
    with pytest.raises(PolicyRefused, match=r"it imports pathlib\.PosixPath.*let an admin allow pickles"):
        version_register(actor=house.alice, model_name="late", semver="1.0.0", path=folder)
    rule = {"scope": "model", "name": "late", "allow_pickle": True, "reason": "old models"}
    format_rule_set(actor=make_actor("ada"), **rule)
    version = version_register(actor=house.alice, model_name="late", semver="1.0.0", path=folder)
    assert version.format == "pickle"
    assert version.inspection["pickles"][0]["imports"] == ["pathlib.PosixPath"]
