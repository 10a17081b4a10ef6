"""The artifact routes, called by the stock MLflow client and by people who mean no good."""

from __future__ import annotations

import os
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import requests

from apps.kernel.actor import Actor
from apps.registry.domain.words import Trust, VersionStatus
from apps.registry.models import ModelVersion, UploadArea, UploadedFile
from apps.registry.services.ingest import MAX_AREA_BYTES, uploads_expire
from apps.registry.services.ingest_store import artifact_store
from tests.api.conftest import key_of
from tests.registry.files import beside_a_worker, canary, entered, has_sung, model, put_folder, work
from tests.registry.trees import make_artifact

pytestmark = pytest.mark.django_db(transaction=True)
"""The routes are called over a real socket, from another thread: what they write must be committed."""


class Shop:
    """Alice's and Bob's keys, and the address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.tokens = {name: key_of(name) for name in ("alice", "bob")}

    def call(self, method: str, place: str, *, who: str = "alice", **how: Any) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.tokens[who]}"} if who else {}
        address = f"{self.address}/api/2.0/mlflow-artifacts/artifacts{place}"
        return requests.request(method, address, headers=headers, timeout=30, **how)

    def actor(self, who: str) -> Actor:
        from apps.registry.api.mlflow.door import actor_behind

        return actor_behind(f"Bearer {self.tokens[who]}", "test")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, settings: Any) -> Path:
    settings.PILOTHOUSE_HOME = tmp_path / "home"
    settings.PILOTHOUSE_ARTIFACT_STORE = str(tmp_path / "home" / "artifacts")
    settings.PILOTHOUSE_ARTIFACT_SOURCES = ((tmp_path / "shared").as_uri(),)
    return tmp_path / "home"


@pytest.fixture
def shop(home: Path, live_server: Any, settings: Any) -> Shop:
    settings.PILOTHOUSE_BASE_URL = live_server.url
    return Shop(live_server.url)


def hex_of(version: ModelVersion) -> str:
    return version.artifact_digest.removeprefix("sha256:")


def test_files_of_a_verified_version_are_listed_and_read(shop: Shop, tmp_path: Path) -> None:
    alice = shop.actor("alice")
    model(alice)
    folder = make_artifact(tmp_path / "shared" / "m")
    (folder / "data").mkdir()
    (folder / "data" / "mödel x.txt").write_text("hello")
    version = entered(alice, str(folder))
    listed = shop.call("GET", f"?path={hex_of(version)}", who="bob").json()["files"]
    assert listed == [
        {"path": "MLmodel", "is_dir": False, "file_size": (folder / "MLmodel").stat().st_size},
        {"path": "data", "is_dir": True},
        {"path": "model.skops", "is_dir": False, "file_size": 7},
    ]
    got = shop.call("GET", f"/{hex_of(version)}/data/m%C3%B6del%20x.txt", who="bob")
    assert (got.status_code, got.content) == (200, b"hello")
    assert got.headers["Content-Disposition"] == "attachment"
    assert got.headers["X-Content-Type-Options"] == "nosniff"
    assert shop.call("GET", f"?path={hex_of(version)}/model.skops").json() == {"files": []}


@pytest.mark.parametrize(
    ("method", "place", "who", "status"),
    [
        ("GET", "?path=x", "", 401),
        ("PUT", "/uploads/a/x", "bob", 403),
        ("DELETE", "/uploads/a/x", "bob", 403),
        ("GET", "?path=" + "0" * 64, "bob", 404),
        ("GET", "/" + "0" * 64 + "/MLmodel", "bob", 404),
        ("GET", "/%2e%2e/%2e%2e/etc/passwd", "bob", 404),
        ("GET", "/uploads/a/..%2f..%2fetc%2fpasswd", "bob", 404),
        ("PUT", "/uploads/a/..%2fx", "alice", 404),
        ("PUT", "/uploads/a/b%00c", "alice", 404),
        ("PUT", "/uploads/%2e%2e/x", "alice", 404),
        ("PUT", "/uploads/a", "alice", 400),
        ("PUT", "/" + "0" * 64 + "/MLmodel", "alice", 403),
        ("DELETE", "/" + "0" * 64 + "/MLmodel", "alice", 403),
        ("POST", "/uploads/a/x", "alice", 404),
    ],
)
def test_the_wrong_call_gets_the_protocols_own_error(
    shop: Shop, method: str, place: str, who: str, status: int
) -> None:
    answer = shop.call(method, place, who=who, data=b"x" if method == "PUT" else None)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"error_code", "message"}
    assert not UploadedFile.objects.exists()


def test_an_upload_is_registered_with_its_bytes_and_belongs_to_its_maker(shop: Shop, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "elsewhere" / "m")
    source = put_folder(shop.address, shop.tokens["alice"], "run-1", folder)
    alice = shop.actor("alice")
    model(alice)
    version = entered(alice, source)
    assert (version.status, version.trust) == (VersionStatus.READY, Trust.VERIFIED), version.status_message
    assert len([path for path in Path(artifact_store().url, "blobs").rglob("*") if path.is_file()]) == 2
    other = entered(
        Actor(kind="key", id="other", label="someone else", actions=alice.actions, grants=alice.grants), source
    )
    assert other.trust == Trust.UNVERIFIED


def test_nobody_writes_into_or_reads_somebody_elses_upload(shop: Shop) -> None:
    assert shop.call("PUT", "/uploads/a/x", data=b"1").status_code == 200
    shop.tokens["erin"] = key_of("alice")  # another key of the same person is another principal
    assert shop.call("PUT", "/uploads/a/y", who="erin", data=b"2").status_code == 403
    assert shop.call("GET", "/uploads/a/x", who="erin").status_code == 404
    assert shop.call("GET", "?path=uploads/a", who="erin").status_code == 404
    assert shop.call("GET", "/uploads/a/x").content == b"1"
    assert shop.call("DELETE", "/uploads/a/x").status_code == 200
    assert not UploadedFile.objects.exists()


def test_an_uploaded_pickle_never_runs_in_the_web_or_the_worker(shop: Shop, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "elsewhere" / "m", weights=canary(tmp_path))
    source = put_folder(shop.address, shop.tokens["alice"], "run-1", folder)
    alice = shop.actor("alice")
    model(alice)
    version = entered(alice, source)
    assert version.status == VersionStatus.FAILED
    assert "posix.system" in version.status_message
    answer = requests.get(
        f"{shop.address}/api/2.0/mlflow/model-versions/get?name=late&version=1",
        headers={"Authorization": f"Bearer {shop.tokens['alice']}"},
        timeout=30,
    ).json()["model_version"]
    assert answer["status"] == "FAILED_REGISTRATION"
    assert "posix.system" in answer["status_message"]
    assert not has_sung(tmp_path)


def test_a_flipped_bit_is_a_4xx_and_no_download(shop: Shop, tmp_path: Path) -> None:
    alice = shop.actor("alice")
    model(alice)
    version = entered(alice, str(make_artifact(tmp_path / "shared" / "m")))
    (blob,) = [
        path for path in Path(artifact_store().url, "blobs").rglob("*") if path.is_file() and path.stat().st_size == 7
    ]
    blob.chmod(0o644)
    blob.write_bytes(b"weightz")
    answer = shop.call("GET", f"/{hex_of(version)}/model.skops")
    assert answer.status_code == 400
    assert "damaged" in answer.json()["message"]
    assert shop.call("GET", f"/{hex_of(version)}/MLmodel").status_code == 404


def test_uploads_that_nobody_registers_are_forgotten(shop: Shop) -> None:
    assert shop.call("PUT", "/uploads/a/x", data=b"1").status_code == 200
    assert uploads_expire() == 0
    UploadArea.objects.update(touched_at="2020-01-01T00:00:00Z")
    assert uploads_expire() == 1
    assert not UploadedFile.objects.exists()


def test_a_full_area_takes_no_more(shop: Shop) -> None:
    assert shop.call("PUT", "/uploads/a/x", data=b"1").status_code == 200
    UploadArea.objects.update(size_bytes=MAX_AREA_BYTES)
    answer = shop.call("PUT", "/uploads/a/y", data=b"22")
    assert answer.status_code == 400
    assert "full" in answer.json()["message"]


def test_large_files_pass_in_pieces(shop: Shop, tmp_path: Path) -> None:
    size = 48 * 1024 * 1024
    body = os.urandom(1024) * (size // 1024)
    alice = shop.actor("alice")
    model(alice)
    folder = make_artifact(tmp_path / "shared" / "m")
    (folder / "w.safetensors").write_bytes((8).to_bytes(8, "little") + b"{}      " + body)
    version = entered(alice, str(folder))
    assert version.status == VersionStatus.READY, version.status_message
    from apps.registry.services.ingest_store import artifact_chunks

    tracemalloc.start()
    try:
        got = sum(len(piece) for piece in artifact_chunks(version.artifact_digest, "w.safetensors")[1])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert got == size + 16
    assert peak < 24 * 1024 * 1024


SAVE = """
import sys, mlflow, pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LogisticRegression
frame = pd.DataFrame({"x": [0.0, 1.0], "y": [1.0, 0.0]})
model = LogisticRegression().fit(frame, [0, 1])
signature = infer_signature(frame, pd.Series([0, 1]))
mlflow.sklearn.save_model(model, sys.argv[1], serialization_format="skops", signature=signature,
                          pip_requirements=["scikit-learn"])
"""
LOAD = """
import mlflow, pandas as pd
mlflow.set_registry_uri(__import__("sys").argv[1])
model = mlflow.pyfunc.load_model("models:/late@best")
print("ANSWER", list(model.predict(pd.DataFrame({"x": [0.0, 1.0], "y": [1.0, 0.0]}))))
"""


def clean(tmp_path: Path, token: str = "") -> dict[str, str]:
    """The environment of a machine that has nothing but our address."""
    place = tmp_path / "other-machine"
    place.mkdir(exist_ok=True)
    found = {"PATH": os.environ["PATH"], "HOME": str(place), "TMPDIR": str(place), "PYTHONWARNINGS": "ignore"}
    return {**found, "MLFLOW_TRACKING_TOKEN": token} if token else found


def ran(code: str, *args: str, env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *args], env=env, cwd=cwd, capture_output=True, text=True, timeout=150, check=False
    )


def test_the_stock_client_loads_by_alias_with_nothing_but_our_address(shop: Shop, tmp_path: Path) -> None:
    saved = tmp_path / "shared" / "m"
    saved.parent.mkdir()
    made = ran(SAVE, str(saved), env=clean(tmp_path), cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    alice = shop.actor("alice")
    model(alice)
    version = entered(alice, str(saved))
    assert version.status == VersionStatus.READY, version.status_message
    from apps.registry.services.aliases import alias_set

    alias_set(actor=alice, model_name="late", alias="best", number=1)
    work()
    env = clean(tmp_path, shop.tokens["bob"])
    done = ran(LOAD, shop.address, env=env, cwd=tmp_path / "other-machine")
    assert "ANSWER [" in done.stdout, done.stderr[-3000:]


REGISTER = """
import mlflow, sys
mlflow.set_registry_uri(sys.argv[1])
client = mlflow.MlflowClient(registry_uri=sys.argv[1])
version = client.create_model_version("late", sys.argv[2]).version  # waits for the verdict, answers what was before
print("READY", version, client.get_model_version("late", version).status)
"""


@pytest.mark.parametrize(("is_bad", "said"), [(True, "reaches for posix.system"), (False, "READY 1 READY")])
def test_the_training_script_waits_for_the_worker_and_prints_its_verdict(
    shop: Shop, tmp_path: Path, is_bad: bool, said: str
) -> None:
    weights = canary(tmp_path) if is_bad else b"weights"
    folder = make_artifact(tmp_path / "elsewhere" / "m", weights=weights)
    source = put_folder(shop.address, shop.tokens["alice"], "run-1", folder)
    model(shop.actor("alice"))
    env = clean(tmp_path, shop.tokens["alice"])
    command = [sys.executable, "-c", REGISTER, shop.address, source]
    with subprocess.Popen(
        command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as script:
        printed, _ = beside_a_worker(script)
    assert said in printed
    assert (script.returncode != 0) == is_bad
    assert not has_sung(tmp_path)
