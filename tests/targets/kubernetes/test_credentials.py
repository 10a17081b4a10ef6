"""Credentials in the vault: they go in by form and API, work, are renewed, and come out nowhere."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.audit.models import Event
from apps.kernel.errors import DriverError, InvalidInput
from apps.kernel.vault import VaultFault, vault_rotate
from apps.targets.models import Target
from apps.targets.services.connect import target_create, target_probe
from apps.targets.services.credentials import credentials_opened, credentials_replace
from apps.targets.services.drivers import driver_for
from tests.fakes.targets import ALICE
from tests.targets.kubernetes.plans import connection
from tests.targets.kubernetes.subjects import BOTH, AnyCluster, clusters, new_namespace

pytestmark = pytest.mark.django_db


@pytest.fixture(params=BOTH)
def cluster(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyCluster]:
    yield from clusters(request, tmp_path / "cluster")


def connected(cluster: AnyCluster, auth: dict[str, Any], credentials: dict[str, str]) -> Target:
    wanted = {**connection(), "namespace": new_namespace(cluster), "auth": auth}
    name = f"k8s-{uuid.uuid4().hex[:8]}"
    return target_create(actor=ALICE, name=name, kind="kubernetes", connection=wanted, credentials=credentials)


def by_token(cluster: AnyCluster, token: str) -> Target:
    given = {"token": token, "ca": cluster.ca_file.read_text()}
    return connected(cluster, {"mode": "token", "server": cluster.url}, given)


def test_a_kubeconfig_in_the_vault_opens_the_cluster(cluster: AnyCluster) -> None:
    text = (cluster.folder / "kubeconfig").read_text()
    target = connected(cluster, {"mode": "kubeconfig"}, {"kubeconfig": text})
    report = target_probe(target_id=target.pk)
    assert report is not None
    assert report.version.startswith("v1.")
    target.refresh_from_db()
    assert text not in target.credentials
    assert "admin-token" not in target.credentials + str(target.connection) + str(target.capabilities)
    driver_for(target).close()  # type: ignore[attr-defined]


def test_a_token_that_ends_is_told_and_another_takes_its_place_at_once(cluster: AnyCluster) -> None:
    target = by_token(cluster, cluster.token_for(3))
    assert target_probe(target_id=target.pk) is not None
    before = driver_for(target)
    end_at = time.monotonic() + 90
    while target_probe(target_id=target.pk) is not None:
        assert time.monotonic() < end_at
        time.sleep(0.3)
    target.refresh_from_db()
    assert "renew the target's token" in target.probe_error
    given = {"token": cluster.token_for(600), "ca": cluster.ca_file.read_text()}
    credentials_replace(actor=ALICE, target_id=target.pk, credentials=given)
    assert target_probe(target_id=target.pk) is not None
    target.refresh_from_db()
    assert target.probe_error == ""
    for driver in (before, driver_for(target)):
        driver.close()  # type: ignore[attr-defined]


def test_no_answer_no_page_and_no_audit_entry_holds_them(cluster: AnyCluster) -> None:
    target = by_token(cluster, "admin-token")
    target_probe(target_id=target.pk)
    credentials_replace(
        actor=ALICE, target_id=target.pk, credentials={"token": "admin-token", "ca": cluster.ca_file.read_text()}
    )
    told = json.dumps(list(Event.objects.values_list("detail", flat=True)))
    assert "admin-token" not in told
    assert "replaced" in told
    driver_for(target).close()  # type: ignore[attr-defined]


def test_copied_to_another_row_they_do_not_open(cluster: AnyCluster) -> None:
    one, other = by_token(cluster, "admin-token"), by_token(cluster, "admin-token")
    with pytest.raises(VaultFault):
        credentials_opened(other.pk, one.credentials)
    other.credentials = one.credentials
    with pytest.raises(DriverError) as refused:
        driver_for(other)
    assert "Replace the target's credentials" in refused.value.detail
    assert not refused.value.is_retryable


def test_a_new_key_of_the_vault_seals_them_anew(cluster: AnyCluster) -> None:
    target = by_token(cluster, "admin-token")
    vault_rotate()
    before = target.credentials
    target.refresh_from_db()
    assert target.credentials != before
    assert target_probe(target_id=target.pk) is not None
    driver_for(target).close()  # type: ignore[attr-defined]


def kubeconfig(**user: Any) -> str:
    document = {
        "contexts": [{"name": "it", "context": {"cluster": "it", "user": "it"}}],
        "current-context": "it",
        "clusters": [{"name": "it", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "it", "user": user}],
    }
    return yaml.safe_dump(document)


@pytest.mark.parametrize(
    ("mode", "given", "pointer", "code"),
    [
        ("kubeconfig", {"kubeconfig": kubeconfig(exec={"command": "aws"})}, "kubeconfig", "program_refused"),
        ("kubeconfig", {"kubeconfig": kubeconfig(tokenFile="/etc/passwd")}, "kubeconfig", "names_a_file"),
        ("kubeconfig", {"kubeconfig": "a: [secret-word"}, "kubeconfig", "bad_kubeconfig"),
        ("kubeconfig", {"token": "x"}, "token", "unknown_field"),
        ("token", {"token": "two words"}, "token", "bad_token"),
        ("token", {"token": "x", "ca": "no certificate"}, "ca", "bad_certificate"),
        ("token", {"token": ""}, "token", "required"),
        ("in_cluster", {"token": "x"}, "token", "unknown_field"),
    ],
)
class TestWhatCouldNotWork:
    @pytest.fixture
    def cluster(self) -> None:
        """None is needed: it is refused before anybody is called."""

    def test_is_refused_by_field_and_nothing_of_it_is_repeated(
        self, mode: str, given: dict[str, str], pointer: str, code: str
    ) -> None:
        auth = {"mode": mode, **({"server": "https://127.0.0.1:1"} if mode == "token" else {})}
        with pytest.raises(InvalidInput) as refused:
            target_create(
                actor=ALICE, name="x", kind="kubernetes", connection={**connection(), "auth": auth}, credentials=given
            )
        assert (refused.value.fields[0].pointer, refused.value.fields[0].code) == (f"/credentials/{pointer}", code)
        assert "secret-word" not in refused.value.detail
        assert not Target.objects.exists()
