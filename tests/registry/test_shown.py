"""A page of models is remembered; whatever changes what it shows must show at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from apps.kernel.actor import SYSTEM
from apps.registry.api.mlflow.door import forget_keys
from apps.registry.api.mlflow.shown import forget_shown
from apps.registry.domain.words import VersionStatus
from apps.registry.models import Model, ModelVersion
from apps.registry.services.versions import version_describe
from tests.registry.test_mlflow_door import Caller

pytestmark = pytest.mark.django_db(transaction=True)
SEARCH = ("GET", "registered-models/search")
Change = Callable[[Caller], object]


@pytest.fixture
def alice() -> Caller:
    forget_keys()
    forget_shown()
    caller = Caller("alice")
    for name in ("m", "other"):
        assert caller("POST", "registered-models/create", {"name": name})[0] == 200
        assert caller("POST", "model-versions/create", {"name": name, "source": "s3://x"})[0] == 200
    assert caller("POST", "registered-models/alias", {"name": "m", "alias": "first", "version": "1"})[0] == 200
    tag = {"name": "m", "key": "k", "value": "v"}
    assert caller("POST", "registered-models/set-tag", tag)[0] == 200
    assert caller("POST", "model-versions/set-tag", {**tag, "version": "1"})[0] == 200
    return caller


def calls(method: str, path: str, **body: Any) -> Change:
    def change(caller: Caller) -> None:
        status, answer = caller(method, path, {"name": "m", **body})
        assert status == 200, answer

    return change


def _fails(_: Caller) -> None:
    ModelVersion.objects.filter(model__name="m").update(status=VersionStatus.FAILED)


CHANGES: dict[str, Change] = {
    "a new version": calls("POST", "model-versions/create", source="s3://y"),
    "a description": calls("PATCH", "registered-models/update", description="new"),
    "a version's description": lambda _: version_describe(
        actor=SYSTEM, model_name="m", number=1, description="of the version"
    ),
    "a version's stage": calls("POST", "model-versions/transition-stage", version="1", stage="Staging"),
    "a version deleted": calls("DELETE", "model-versions/delete", version="1"),
    "a check that failed": _fails,
    "a tag": calls("POST", "registered-models/set-tag", key="k", value="w"),
    "a tag deleted": calls("DELETE", "registered-models/delete-tag", key="k"),
    "a version's tag": calls("POST", "model-versions/set-tag", version="1", key="k", value="w"),
    "a version's tag deleted": calls("DELETE", "model-versions/delete-tag", version="1", key="k"),
    "an alias": calls("POST", "registered-models/alias", alias="second", version="1"),
    "an alias deleted": calls("DELETE", "registered-models/alias", alias="first"),
    "a new name": calls("POST", "registered-models/rename", new_name="n"),
    "the model deleted": calls("DELETE", "registered-models/delete"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_shows_in_the_next_search(alice: Caller, change: str) -> None:
    before = alice(*SEARCH)
    assert alice(*SEARCH) == before
    CHANGES[change](alice)
    after = alice(*SEARCH)
    forget_shown()
    assert after == alice(*SEARCH) != before
    assert [one["name"] for one in after[1]["registered_models"]][-1] == "other"


def test_a_second_search_reads_no_model_again(alice: Caller) -> None:
    alice(*SEARCH)
    rows_read: list[object] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("apps.registry.selectors.rows.model_rows", lambda ids: rows_read.append(ids) or [])
        found = alice(*SEARCH)
    assert rows_read == []
    assert len(found[1]["registered_models"]) == Model.objects.count() == 2
