"""A build in a cluster, from the question to the digest at the version: in memory always, and on a real API server."""

from __future__ import annotations

import base64
import io
import subprocess
import tarfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from apps.audit.models import Event
from apps.kernel.actor import SYSTEM
from apps.kernel.errors import Conflict, InvalidInput, PolicyRefused
from apps.registry.models import ModelVersion
from apps.registry.services.images import version_image_record
from apps.targets.drivers.kubernetes.settings import settings_from
from apps.targets.images.builds import BuildState
from apps.targets.images.job import _SCRIPT, BuildSettings, digest_in, pushed_to
from apps.targets.models import ImageBuild, Target
from apps.targets.services.connect import target_create
from apps.targets.services.drivers import driver_for
from apps.targets.services.image_builds import (
    builders_for,
    image_build_get,
    image_build_start,
    image_build_stop,
    image_build_tick,
    image_builds_due,
)
from tests.images.clusters import BROKEN_IMAGE, InMemory, Place, Real, build_connection, until
from tests.images.conftest import Registry
from tests.targets.kubernetes.cluster import Cluster, missing, real_cluster
from tests.targets.kubernetes.fake_api import fake_cluster

pytestmark = pytest.mark.timeout(600)
PUSHED = "sha256:" + "d" * 64
needs_a_server = pytest.mark.skipif(bool(missing()), reason=f"no Kubernetes API server: {missing()}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with real_cluster(tmp_path_factory.mktemp("builds"), nodes=1) as found:
        yield found


@pytest.fixture(params=["memory", pytest.param("real", marks=[pytest.mark.real, needs_a_server])])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "real":
        yield Real.new(request.getfixturevalue("server"))
        return
    with fake_cluster() as cluster:
        yield InMemory(cluster)


@pytest.fixture
def version(registry: Registry, place: Place, monkeypatch: pytest.MonkeyPatch) -> ModelVersion:
    monkeypatch.setattr("apps.targets.drivers.kubernetes.driver.configure", lambda _: place.configuration())
    return registry.version()


def target_at(registry: Registry, place: Place, **build: Any) -> Target:
    wanted = build_connection(place, **build)
    wanted["route"]["address"] = f"https://{place.namespace}-{id(place)}.example.com"  # a driver of its own
    return target_create(actor=SYSTEM, name=f"builds-{Target.objects.count()}", kind="kubernetes", connection=wanted)


def start(registry: Registry, version: ModelVersion, target: Target) -> ImageBuild:
    return image_build_start(
        actor=registry.actor(), model_name=version.model.name, reference=str(version.number), target_id=target.pk
    )


def look_again(build: ImageBuild) -> ImageBuild:
    image_build_tick(build.pk)
    return image_build_get(build.pk)


def _is_gone(place: Place, plural: str, name: str) -> bool:
    return place.get(plural, name) is None


def test_a_build_ends_with_the_digest_at_the_version(registry: Registry, place: Place, version: ModelVersion) -> None:
    target = target_at(registry, place)
    build = start(registry, version, target)
    assert (build.state, build.image) == (BuildState.QUEUED, f"registry.example.com/models/late:{version.reference}")
    with pytest.raises(Conflict) as twice:
        start(registry, version, target)
    assert twice.value.code == "build_under_way"
    assert image_builds_due() == 1
    build = image_build_get(build.pk)
    assert (build.state, build.reason) == (BuildState.RUNNING, "")
    job, folder = place.get("jobs", build.job_name), place.get("configmaps", build.job_name)
    assert job is not None
    assert folder is not None
    (owner,) = folder["metadata"]["ownerReferences"]
    assert owner["uid"] == job["metadata"]["uid"]
    with tarfile.open(fileobj=io.BytesIO(base64.b64decode(folder["binaryData"]["context.tar.gz"]))) as tar:
        assert version.artifact_digest in (tar.extractfile("Dockerfile") or io.BytesIO()).read().decode()
    place.finish(build.job_name, f"{PUSHED}\n")
    build = look_again(build)
    assert (build.state, build.digest, build.reason) == (BuildState.SUCCEEDED, PUSHED, "")
    assert build.ended_at is not None
    version.refresh_from_db()
    assert version.image == f"registry.example.com/models/late@{PUSHED}"
    assert image_builds_due() == 0, "what has ended is not looked at again"
    told = [(event.verb, event.detail.get("built_by", "")) for event in Event.objects.order_by("seq")]
    assert told[-3:] == [
        ("image_build.started", ""), ("version.image_recorded", build.pk), ("image_build.ended", ""),
    ]  # fmt: skip
    driver_for(target).close()  # type: ignore[attr-defined]


def test_a_build_that_fails_says_why_and_records_nothing(
    registry: Registry, place: Place, version: ModelVersion
) -> None:
    target = target_at(registry, place, image=BROKEN_IMAGE)
    build = look_again(start(registry, version, target))
    place.fail(build.job_name, "ERROR: no matching distribution found for mystery==1.0")
    build = look_again(build)
    assert build.state == BuildState.FAILED
    assert "backoff limit" in build.reason
    assert "It last said" in build.reason
    version.refresh_from_db()
    assert version.image == ""
    assert Event.objects.filter(verb="image_build.ended").get().detail["state"] == "failed"
    driver_for(target).close()  # type: ignore[attr-defined]


def test_a_build_without_a_digest_is_no_success(registry: Registry, place: Place, version: ModelVersion) -> None:
    target = target_at(registry, place)
    build = look_again(start(registry, version, target))
    place.finish(build.job_name, "done")
    build = look_again(build)
    assert build.state == BuildState.FAILED
    assert "digest" in build.reason
    driver_for(target).close()  # type: ignore[attr-defined]


def test_a_stopped_build_leaves_nothing_there(registry: Registry, place: Place, version: ModelVersion) -> None:
    target = target_at(registry, place)
    build = look_again(start(registry, version, target))
    assert place.get("jobs", build.job_name) is not None
    build = image_build_stop(actor=registry.actor(), build_id=build.pk)
    assert build.state == BuildState.STOPPED
    image_build_tick(build.pk)
    # its folder goes with it: the API server's own collector knows whose it is
    gone = ("jobs", "configmaps") if isinstance(place, Real) else ("jobs",)
    for plural in gone:
        until(partial(_is_gone, place, plural, build.job_name))
    with pytest.raises(Conflict):
        image_build_stop(actor=registry.actor(), build_id=build.pk)
    assert start(registry, version, target).state == BuildState.QUEUED, "another may follow"
    driver_for(target).close()  # type: ignore[attr-defined]


def test_a_job_that_somebody_deleted_is_told(registry: Registry, place: Place, version: ModelVersion) -> None:
    target = target_at(registry, place)
    build = look_again(start(registry, version, target))
    driver: Any = driver_for(target)
    driver.build_stop(build.job_name)
    until(lambda: place.get("jobs", build.job_name) is None)
    assert "deleted" in look_again(build).reason
    driver.close()


def test_a_cluster_that_is_away_postpones_a_build(
    registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = registry.version()
    with fake_cluster() as cluster:
        place = InMemory(cluster)
        monkeypatch.setattr("apps.targets.drivers.kubernetes.driver.configure", lambda _: place.configuration())
        target = target_at(registry, place)
        build = start(registry, version, target)
        cluster.is_down = True
        build = look_again(build)
        assert build.state == BuildState.QUEUED
        assert "cannot be reached" in build.reason or "answer" in build.reason
        cluster.is_down = False
        assert look_again(build).state == BuildState.RUNNING
        driver_for(target).close()  # type: ignore[attr-defined]


def test_only_targets_that_say_how_are_offered(registry: Registry, place: Place, version: ModelVersion) -> None:
    building = target_at(registry, place)
    assert builders_for(registry.actor("alice")) == [building]
    assert builders_for(registry.actor("bob")) == []


def test_files_that_no_build_can_fetch_are_refused(registry: Registry, place: Place, version: ModelVersion) -> None:
    ModelVersion.objects.filter(pk=version.pk).update(storage_uri="file:///elsewhere/model")
    with pytest.raises(PolicyRefused) as refused:
        start(registry, version, target_at(registry, place))
    assert refused.value.code == "files_not_stored"
    assert ImageBuild.objects.count() == 0


def test_a_version_that_went_away_fails_its_build_instead_of_trying_for_ever(
    registry: Registry, place: Place, version: ModelVersion
) -> None:
    build = look_again(start(registry, version, target_at(registry, place)))
    place.finish(build.job_name, PUSHED)
    ModelVersion.objects.filter(pk=version.pk).update(status="failed_registration")
    build = look_again(build)
    assert build.state == BuildState.FAILED
    assert "ready" in build.reason


@pytest.mark.parametrize(
    ("build", "pointer"),
    [
        ({"repository": ""}, "repository"), ({"repository": "a:1"}, "repository"),
        ({"repository": "A B"}, "repository"),
        ({"push_secret": ""}, "push_secret"), ({"token_secret": ""}, "token_secret"), ({"image": "x y"}, "image"),
        ({"memory": "lots"}, "memory"), ({"seconds": 5}, "seconds"), ({"url": "ftp://x"}, "url"), ({"cache": "x"}, ""),
    ],
)  # fmt: skip
def test_a_connection_that_builds_nowhere_is_refused_at_its_field(build: dict[str, Any], pointer: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        settings_from(build_connection(InMemory(None), **build))  # type: ignore[arg-type]
    assert refused.value.fields[0].pointer.startswith(f"/connection/build/{pointer}".rstrip("/"))


def test_the_digest_is_found_in_what_buildctl_writes(tmp_path: Path) -> None:
    """The script's own last line, on metadata as ``buildctl --metadata-file`` writes it."""
    (tmp_path / "built.json").write_text(
        '{\n  "containerimage.config.digest": "sha256:' + "c" * 64 + '",\n  "containerimage.descriptor": "e30=",\n'
        f'  "containerimage.digest": "{PUSHED}",\n  "image.name": "x"\n}}\n'
    )
    last = (
        _SCRIPT.strip()
        .splitlines()[-1]
        .replace("/workspace", str(tmp_path))
        .replace("/dev/termination-log", "/dev/stdout")
    )
    done = subprocess.run(["sh", "-c", last], capture_output=True, text=True, check=True)
    assert digest_in(done.stdout) == PUSHED
    assert subprocess.run(["sh", "-n"], input=_SCRIPT, text=True, check=False).returncode == 0


def test_an_image_that_was_recorded_by_hand_stays_until_another_is(registry: Registry) -> None:
    version = registry.version()
    image = f"registry.example.com/a@{PUSHED}"
    for _ in range(2):
        version_image_record(actor=registry.actor(), model_name="late", number=version.number, image=image)
    version.refresh_from_db()
    assert version.image == image
    assert pushed_to(BuildSettings("r.example.com/{model}", "a", "b"), "late", "1") == "r.example.com/late:1"
