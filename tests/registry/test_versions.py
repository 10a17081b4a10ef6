"""What becomes of versions: semvers from signatures, tombstones, histories, requests."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import Error, connection, transaction

from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.kernel.errors import NotFound
from apps.kernel.models import OutboxEntry
from apps.registry import selectors
from apps.registry.domain.words import Stage, Trust, VersionStatus
from apps.registry.models import AliasMove, ModelVersion
from apps.registry.services import aliases, catalogue
from apps.registry.services.settle import Facts, version_fail, version_settle
from apps.registry.services.versions import Entry, version_create, version_delete, version_stage

pytestmark = pytest.mark.django_db
AGE = {"name": "age", "type": "double", "required": True}
WIND = {"name": "wind", "type": "double", "required": True}


def facts(*inputs: dict[str, Any]) -> Facts:
    signature = {"inputs": list(inputs), "outputs": [{"name": "", "type": "double"}]}
    return Facts("file:///store/x", "sha256:" + "a" * 64, 7, flavor="sklearn", format="skops", signature=signature)


def pending(name: str, wanted: str = "") -> ModelVersion:
    tags = {"pilothouse.semver": wanted} if wanted else {}
    made = version_create(actor=SYSTEM, model_name=name, entry=Entry("s3://x", tags=tags))
    ModelVersion.objects.filter(pk=made.pk).update(status=VersionStatus.PENDING)
    return made


@pytest.fixture
def name(db: None) -> str:
    return catalogue.model_register(actor=SYSTEM, name="late").name


def test_the_signature_decides_the_semver(name: str) -> None:
    optional = {**WIND, "required": False}
    found = [
        version_settle(version_id=pending(name).pk, facts=facts(*inputs)).semver
        for inputs in ([AGE], [AGE], [AGE, optional], [AGE, WIND], [AGE, optional])
    ]
    assert found == ["1.0.0", "1.0.1", "1.1.0", "2.0.0", "2.1.0"]


def test_the_author_may_raise_the_semver_and_never_lower_it(name: str) -> None:
    assert version_settle(version_id=pending(name, "3.0.0").pk, facts=facts(AGE)).semver == "3.0.0"
    lower = version_settle(version_id=pending(name, "3.1.0").pk, facts=facts(AGE, WIND))
    assert (lower.status, lower.semver) == (VersionStatus.FAILED, "")
    assert "'wind' (double) is new and required" in lower.status_message
    no_patch = version_settle(version_id=pending(name, "3.0.1").pk, facts=facts(AGE, {**WIND, "required": False}))
    assert (no_patch.status, "no patch" in no_patch.status_message) == (VersionStatus.FAILED, True)
    taken = version_settle(version_id=pending(name, "3.0.0").pk, facts=facts(AGE))
    assert "registered already" in taken.status_message


def test_a_version_is_settled_once(name: str) -> None:
    first = pending(name)
    version_settle(version_id=first.pk, facts=facts(AGE))
    version_fail(version_id=first.pk, message="too late")
    version_settle(version_id=first.pk, facts=facts(AGE, WIND))
    first.refresh_from_db()
    assert (first.status, first.trust, first.semver) == (VersionStatus.READY, Trust.VERIFIED, "1.0.0")
    second = pending(name)
    version_fail(version_id=second.pk, message="no MLmodel", trust=Trust.MISSING)
    version_settle(version_id=second.pk, facts=facts(AGE))
    second.refresh_from_db()
    assert (second.status, second.status_message, second.trust) == (VersionStatus.FAILED, "no MLmodel", Trust.MISSING)
    assert Event.objects.filter(verb__in=["version.verified", "version.failed"]).count() == 2


def test_a_catalogue_entry_is_no_offer_to_deploy(name: str) -> None:
    entry = version_create(actor=SYSTEM, model_name=name, entry=Entry("s3://x"))
    assert (entry.status, entry.trust, entry.semver, entry.reference) == ("ready", "unverified", "", "1")
    assert selectors.version_list(name) == []
    assert selectors.version_list(name, only_deployable=False) == [entry]
    assert selectors.version_by(name, "1") == entry
    assert list(selectors.model_list()[0].versions.all()) == []
    assert not OutboxEntry.objects.filter(name="registry.verify_version").exists()


def test_a_source_in_our_own_folders_is_looked_at_by_a_worker(name: str, settings: Any, tmp_path: Any) -> None:
    settings.PILOTHOUSE_HOME = tmp_path
    made = version_create(actor=SYSTEM, model_name=name, entry=Entry(f"{tmp_path}/artifacts/a"))
    assert made.status == VersionStatus.PENDING
    assert OutboxEntry.objects.get(name="registry.verify_version").payload == {"version_id": made.pk}
    for foreign in (f"{tmp_path}/secrets/a", f"{tmp_path}/artifacts/../secrets", "/etc", "file://host/artifacts"):
        assert version_create(actor=SYSTEM, model_name=name, entry=Entry(foreign)).status == VersionStatus.READY


def test_a_copy_has_what_is_known_of_its_origin(name: str) -> None:
    origin = version_settle(version_id=pending(name).pk, facts=facts(AGE))
    catalogue.model_register(actor=SYSTEM, name="copy")
    copied = version_create(actor=SYSTEM, model_name="copy", entry=Entry("models:/late/1"))
    assert (copied.parent, copied.storage_uri, copied.semver) == (origin, origin.storage_uri, "1.0.0")
    assert (copied.trust, copied.source_uri) == (Trust.VERIFIED, "models:/late/1")


def test_a_deleted_version_keeps_its_number_and_its_semver(name: str) -> None:
    gone = version_settle(version_id=pending(name).pk, facts=facts(AGE))
    version_delete(actor=SYSTEM, model_name=name, number=1)
    with pytest.raises(NotFound):
        selectors.version_by(name, "1")
    assert selectors.version_get(gone.pk).semver == "1.0.0"
    after = version_settle(version_id=pending(name).pk, facts=facts(AGE))
    assert (after.number, after.semver) == (2, "1.0.1")


@pytest.mark.parametrize("change", ["UPDATE registry_aliasmove SET name = 'x'", "DELETE FROM registry_aliasmove"])
def test_the_history_of_aliases_is_append_only_in_the_database(name: str, change: str) -> None:
    version_create(actor=SYSTEM, model_name=name, entry=Entry("s3://1"))
    aliases.alias_set(actor=SYSTEM, model_name=name, alias="a", number=1)
    with pytest.raises(Error), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(change)
    assert AliasMove.objects.count() == 1


def test_the_database_itself_holds_one_version_in_production(name: str) -> None:
    for source in ("s3://1", "s3://2"):
        version_create(actor=SYSTEM, model_name=name, entry=Entry(source))
    version_stage(actor=SYSTEM, model_name=name, number=1, stage=Stage.PRODUCTION)
    with pytest.raises(Error), transaction.atomic():
        ModelVersion.objects.filter(number=2).update(stage=Stage.PRODUCTION)
