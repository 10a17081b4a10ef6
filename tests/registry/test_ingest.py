"""Verification and the store: looked at once, kept once, never loaded, and refused when it is not what it was."""

from __future__ import annotations

import os
import pickle
import threading
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from apps.audit.models import Event
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict, InvalidInput, NotFound, PolicyRefused
from apps.registry.domain.manifest import Manifest
from apps.registry.domain.words import Trust, VersionStatus
from apps.registry.drivers.artifacts import digest_and_size, folder_manifest
from apps.registry.drivers.store import ArtifactStore, Damaged
from apps.registry.models import ModelVersion
from apps.registry.services import verify
from apps.registry.services.ingest_store import artifact_chunks, artifact_fetch, artifact_store
from apps.registry.services.verify_ingest import version_ingest_ask
from apps.registry.services.verify_policy import format_rule_set
from apps.registry.services.versions import Entry, version_create
from tests.cast import make_actor
from tests.registry.files import canary, entered, has_sung, model, work
from tests.registry.trees import make_artifact

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def home(tmp_path: Path, settings: Any) -> Path:
    settings.PILOTHOUSE_HOME = tmp_path / "home"
    settings.PILOTHOUSE_ARTIFACT_STORE = str(tmp_path / "home" / "artifacts")
    settings.PILOTHOUSE_ARTIFACT_SOURCES = ((tmp_path / "shared").as_uri(),)
    return tmp_path / "home"


@pytest.fixture
def alice(home: Path) -> Actor:
    actor = make_actor("alice")
    model(actor)
    return actor


def blobs(store: ArtifactStore) -> list[Path]:
    return sorted(path for path in Path(store.url, "blobs").rglob("*") if path.is_file())


def test_a_good_artifact_becomes_ready_with_its_facts(alice: Actor, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "shared" / "m")
    version = entered(alice, folder.as_uri())
    assert (version.status, version.trust, version.semver) == (VersionStatus.READY, Trust.VERIFIED, "1.0.0")
    assert version.artifact_digest == digest_and_size(folder)[0]
    assert version.source_uri == folder.as_uri()
    assert version.inspection["files"] == 2
    kept = Path(version.storage_uri.removeprefix("file://"))
    assert folder_manifest(kept) == folder_manifest(folder)
    assert Event.objects.filter(verb="version.verified").count() == 1


def test_the_same_bytes_twice_add_no_blob(alice: Actor, tmp_path: Path) -> None:
    entered(alice, str(make_artifact(tmp_path / "shared" / "a")))
    before = blobs(artifact_store())
    second = entered(alice, str(make_artifact(tmp_path / "shared" / "b")))
    assert blobs(artifact_store()) == before
    assert len(before) == 2
    assert second.semver == "1.0.1"


def test_what_is_overwritten_at_the_source_afterwards_changes_nothing(alice: Actor, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "shared" / "m")
    version = entered(alice, str(folder))
    (folder / "model.skops").write_bytes(b"other weights")
    artifact_fetch(version, tmp_path / "fetched")
    assert (tmp_path / "fetched" / "model.skops").read_bytes() == b"weights"
    verify.artifact_check(version)


def test_a_source_elsewhere_is_an_entry_of_the_catalogue(alice: Actor, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "private" / "m")
    for source in (str(folder), "s3://bucket/m", "models:/m-" + "a" * 32, f"{tmp_path}/shared/../private/m"):
        version = entered(alice, source)
        assert (version.status, version.trust) == (VersionStatus.READY, Trust.UNVERIFIED)
        assert version.source_uri == source
    with pytest.raises(PolicyRefused, match=r"curl -X POST .*/api/v1/models/late/versions/4/ingest"):
        verify.artifact_check(version)


def test_a_pickle_is_refused_with_what_it_imports_and_never_runs(alice: Actor, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "shared" / "m", weights=canary(tmp_path))
    version = entered(alice, str(folder))
    assert version.status == VersionStatus.FAILED
    assert "model.skops is a pickle that reaches for posix.system" in version.status_message
    ada = make_actor("ada")
    format_rule_set(actor=ada, scope="model", name="late", allow_pickle=True, reason="old models")
    again = entered(alice, str(folder))
    assert again.status == VersionStatus.FAILED
    assert not has_sung(tmp_path)
    assert not Path(artifact_store().url, "trees").exists()


def test_a_rule_lets_an_ordinary_pickle_in_and_its_imports_are_kept(alice: Actor, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "shared" / "m", weights=pickle.dumps(Path("x")))
    assert entered(alice, str(folder)).status == VersionStatus.FAILED
    format_rule_set(actor=make_actor("ada"), scope="team", name="default", allow_pickle=True, reason="old models")
    version = entered(alice, str(folder))
    assert version.status == VersionStatus.READY
    assert version.format == "pickle"
    assert version.inspection["pickles"][0]["imports"] == ["pathlib.PosixPath"]
    assert Event.objects.get(verb="format_rule.set").detail["reason"] == "old models"


def test_a_rule_without_a_reason_or_for_native_code_is_refused(alice: Actor) -> None:
    with pytest.raises(InvalidInput, match="Say why"):
        format_rule_set(actor=alice, scope="all", allow_pickle=True, reason=" ")
    with pytest.raises(InvalidInput, match="native_code"):
        format_rule_set(actor=alice, scope="all", allowed=["native_code"], allow_pickle=False, reason="")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "MLmodel").unlink(), "MLmodel"),
        (lambda folder: (folder / "more").symlink_to("/etc/hostname"), "symbolic link"),
        (lambda folder: os.mkfifo(folder / "pipe"), "not a regular file"),
        (lambda folder: (folder / "MLmodel").write_text("flavors: {x: {}}"), "no signature"),
        (lambda folder: (folder / "lib.bin").write_bytes(b"\x7fELF"), "native code"),
    ],
)
def test_a_bad_artifact_fails_with_a_sentence(alice: Actor, tmp_path: Path, spoil: Any, said: str) -> None:
    folder = make_artifact(tmp_path / "shared" / "m")
    spoil(folder)
    version = entered(alice, str(folder))
    assert version.status == VersionStatus.FAILED
    assert said in version.status_message


def test_a_source_that_is_gone_is_missing(alice: Actor, tmp_path: Path) -> None:
    version = entered(alice, str(tmp_path / "shared" / "nowhere"))
    assert (version.status, version.trust) == (VersionStatus.FAILED, Trust.MISSING)


def test_a_folder_that_changes_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "m")

    def disturb(files: int, size: int) -> None:
        (folder / "late.txt").write_text("still writing")

    with pytest.raises(InvalidInput, match="changed while it was read") as refused:
        folder_manifest(folder, progress=disturb)
    assert refused.value.is_retryable


def test_a_run_that_died_is_repeated_by_the_sweep(
    alice: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_artifact(tmp_path / "shared" / "m")
    version = version_create(actor=alice, model_name="late", entry=Entry(source=str(folder)))

    def killed(*_: Any) -> None:
        raise SystemExit("as if killed, between the look and the outcome")

    with monkeypatch.context() as patch:
        patch.setattr(verify, "version_settle", lambda **_: killed())
        for _ in range(2):
            with pytest.raises(SystemExit):
                verify.version_verify(version.pk)
    monkeypatch.setattr(verify, "DUE_SECONDS", -60)
    assert verify.verify_due() == 1
    version.refresh_from_db()
    assert (version.status, version.trust) == (VersionStatus.READY, Trust.VERIFIED)
    assert verify.verify_due() == 0


def test_a_version_that_kills_its_worker_again_and_again_ends_failed(
    alice: Actor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = make_artifact(tmp_path / "shared" / "m")
    version = version_create(actor=alice, model_name="late", entry=Entry(source=str(folder)))

    def fatal(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr(verify, "artifact_examine", fatal)
    for _ in range(verify.MAX_ATTEMPTS):
        with pytest.raises(MemoryError):
            verify.version_verify(version.pk)
    verify.version_verify(version.pk)
    version.refresh_from_db()
    assert version.status == VersionStatus.FAILED
    assert "attempts" in version.status_message


@pytest.mark.django_db(transaction=True)
def test_of_two_workers_one_finishes(alice: Actor, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "shared" / "m")
    ids = [version_create(actor=alice, model_name="late", entry=Entry(source=str(folder))).pk for _ in range(3)]

    def run() -> None:
        for version_id in ids:
            verify.version_verify(version_id)
        connections.close_all()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    verify.verify_due()
    found = ModelVersion.objects.filter(pk__in=ids)
    assert {one.status for one in found} == {VersionStatus.READY}
    assert {one.semver for one in found} == {"1.0.0", "1.0.1", "1.0.2"}
    assert Event.objects.filter(verb="version.verified").count() == 3


def flip(store: ArtifactStore, content: bytes) -> Path:
    """Flips a bit of the blob with this content."""
    (found,) = [path for path in blobs(store) if path.read_bytes() == content]
    found.chmod(0o644)
    found.write_bytes(bytes([content[0] ^ 1]) + content[1:])
    return found


def test_a_flipped_bit_is_refused_recorded_and_can_be_healed(alice: Actor, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "shared" / "m")
    other = entered(alice, str(make_artifact(tmp_path / "shared" / "other", weights=b"others")))
    version = entered(alice, str(folder))
    flip(artifact_store(), b"weights")
    with pytest.raises(PolicyRefused, match="damaged") as refused:
        artifact_chunks(version.artifact_digest, "model.skops")
    assert refused.value.code == "artifact_damaged"
    version.refresh_from_db()
    assert version.trust == Trust.MISSING
    assert Event.objects.get(verb="artifact.damaged").detail["path"] == "model.skops"
    assert b"".join(artifact_chunks(other.artifact_digest, "model.skops")[1]) == b"others"

    version_ingest_ask(actor=alice, version=version)
    work()
    version.refresh_from_db()
    assert (version.trust, version.semver) == (Trust.VERIFIED, "1.0.1")
    assert b"".join(artifact_chunks(version.artifact_digest, "model.skops")[1]) == b"weights"


def test_of_a_large_damaged_file_the_end_is_never_handed_out(tmp_path: Path) -> None:
    store = ArtifactStore(str(tmp_path / "store"), tmp_path / "checkouts")
    content = os.urandom(9 * 1024 * 1024)
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "w").write_bytes(content)
    with (tmp_path / "m" / "w").open("rb") as stream:
        sha256, size, is_new = store.blob_add(stream)
    assert is_new
    assert b"".join(store.blob_read(sha256, size)) == content
    flip(store, content)

    got = 0

    def read() -> None:
        nonlocal got
        for piece in store.blob_read(sha256, size):
            got += len(piece)

    with pytest.raises(Damaged):
        read()
    assert 0 < got < size


def test_a_store_elsewhere_holds_the_same(tmp_path: Path) -> None:
    store = ArtifactStore(f"memory://store-{os.getpid()}", tmp_path / "checkouts")
    folder = make_artifact(tmp_path / "m")
    entries = []
    for one in folder_manifest(folder).entries:
        with (folder / one.path).open("rb") as stream:
            assert store.blob_add(stream)[:2] == (one.sha256, one.size)
        entries.append(one)
    manifest = Manifest.of(entries)
    assert store.tree_add(manifest)
    assert not store.tree_add(manifest)
    assert store.tree_get(manifest.digest) == manifest
    assert folder_manifest(store.checkout(manifest)) == manifest


def test_a_version_registered_by_path_can_be_brought_in_and_keeps_its_number(alice: Actor, tmp_path: Path) -> None:
    from apps.registry.services.register import version_register

    folder = make_artifact(tmp_path / "shared" / "m")
    version = version_register(actor=alice, model_name="late", semver="2.3.4", path=folder)
    with pytest.raises(NotFound):
        artifact_chunks(version.artifact_digest, "MLmodel")
    version_ingest_ask(actor=alice, version=version)
    work()
    version.refresh_from_db()
    assert version.semver == "2.3.4"
    assert artifact_chunks(version.artifact_digest, "MLmodel")[0].size == (folder / "MLmodel").stat().st_size
    with pytest.raises(Conflict, match="in the store already"):
        version_ingest_ask(actor=alice, version=version)


def test_other_bytes_than_those_registered_are_not_brought_in(alice: Actor, tmp_path: Path) -> None:
    from apps.registry.services.register import version_register

    folder = make_artifact(tmp_path / "shared" / "m")
    version = version_register(actor=alice, model_name="late", semver="1.0.0", path=folder)
    (folder / "model.skops").write_bytes(b"other")
    version_ingest_ask(actor=alice, version=version)
    work()
    version.refresh_from_db()
    assert "registered was sha256:" in version.status_message
    assert Event.objects.get(verb="version.ingest_failed").detail["code"] == "digest_mismatch"
    with pytest.raises(InvalidInput, match="PILOTHOUSE_ARTIFACT_SOURCES"):
        version_ingest_ask(actor=alice, version=version, source="/etc")
