"""What registration reads of an artifact, without running a byte of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from apps.kernel.errors import InvalidInput
from apps.registry.drivers.artifacts import digest_and_size, read_artifact
from serving.artifact import TEST_VECTOR, TEST_VECTOR_DIGEST, artifact_digest
from tests.registry.trees import INPUTS, make_artifact

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def vector(tmp_path: Path) -> Path:
    folder = tmp_path / "vector"
    for name, content in TEST_VECTOR.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def test_registry_and_serving_compute_the_digest_that_the_contract_fixes(vector: Path) -> None:
    digest, size = digest_and_size(vector)
    assert digest == artifact_digest(vector) == TEST_VECTOR_DIGEST
    assert size == sum(len(body) for name, body in TEST_VECTOR.items() if not name.endswith(".pyc"))


def test_the_digest_is_the_one_written_in_the_contract(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "m", weights=b"w")
    lines = ""
    for name in ("MLmodel", "model.skops"):
        body = (folder / name).read_bytes()
        lines += f"{hashlib.sha256(body).hexdigest()}  {len(body)}  {name}\n"
    assert digest_and_size(folder)[0] == "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


@pytest.mark.parametrize("change", ["content", "name", "new file", "moved"])
def test_every_change_changes_both_digests_alike(vector: Path, change: str) -> None:
    match change:
        case "content":
            (vector / "MLmodel").write_bytes(b"flavors: []\n")
        case "name":
            (vector / "MLmodel").rename(vector / "mlmodel")
        case "new file":
            (vector / "empty").touch()
        case "moved":
            (vector / "a" / "x.txt").rename(vector / "x.txt")
    assert digest_and_size(vector)[0] == artifact_digest(vector) != TEST_VECTOR_DIGEST


def test_compiled_python_changes_nothing(vector: Path) -> None:
    (vector / "code" / "__pycache__").mkdir()
    (vector / "code" / "__pycache__" / "m.cpython-311.pyc").write_bytes(b"x")
    assert digest_and_size(vector)[0] == TEST_VECTOR_DIGEST


def test_signature_flavor_and_constraints_are_read(tmp_path: Path) -> None:
    columns = {"dep_delay": {"nullable": False, "min": -120, "max": 3000}, "carrier": {"values": ["AA", "UA"]}}
    found = read_artifact(make_artifact(tmp_path / "with space", columns=columns))
    assert found.uri == (tmp_path / "with space").as_uri()
    assert found.flavor == "sklearn"
    assert found.signature == {
        "inputs": [{"name": one["name"], "type": one["type"], "required": one["required"]} for one in INPUTS],
        "outputs": [{"name": "late", "type": "long", "required": True}],
    }
    assert found.input_constraints == columns
    assert read_artifact(found.uri) == found


def test_outputs_without_names_and_tensors_are_read(tmp_path: Path) -> None:
    unnamed = make_artifact(tmp_path / "a", outputs=[{"type": "long", "required": True}])
    assert read_artifact(unnamed).signature["outputs"] == [{"name": "", "type": "long", "required": True}]
    tensor = {"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}
    found = read_artifact(make_artifact(tmp_path / "b", outputs=[tensor])).signature["outputs"]
    assert found == [{"name": "", "type": "tensor(int64, [-1])", "required": True}]
    assert read_artifact(make_artifact(tmp_path / "c", outputs=None)).signature["outputs"] == []


def test_a_model_that_mlflow_itself_saved_is_read(tmp_path: Path) -> None:
    code = """
import sys, mlflow, pandas as pd
from mlflow.models import infer_signature
class Late(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input):
        return [1] * len(model_input)
frame = pd.DataFrame({"month": [1, 2], "carrier": ["AA", "UA"]})
mlflow.pyfunc.save_model(sys.argv[1], python_model=Late(), signature=infer_signature(frame, pd.Series([0, 1])),
                         pip_requirements=["mlflow"], metadata={"pilothouse": {"columns": {"month": {"min": 1}}}})
"""
    made = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "m")], capture_output=True, text=True, check=False
    )
    assert made.returncode == 0, made.stderr
    found = read_artifact(tmp_path / "m")
    assert found.flavor == "python_function"
    assert [(one["name"], one["type"]) for one in found.signature["inputs"]] == [
        ("month", "long"),
        ("carrier", "string"),
    ]
    assert [one["type"] for one in found.signature["outputs"]] == ["long"]
    assert found.input_constraints == {"month": {"min": 1}}
    assert found.digest == artifact_digest(tmp_path / "m")


def test_reading_an_artifact_imports_neither_mlflow_nor_pickle_users() -> None:
    code = (
        "import sys, apps.registry.drivers.artifacts; print(sorted({'mlflow', 'sklearn', 'joblib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def code_of(path: Any) -> str:
    with pytest.raises(InvalidInput) as refused:
        read_artifact(path)
    assert [field.pointer for field in refused.value.fields] == ["/path"]
    return refused.value.code


def test_what_is_not_there_is_refused(tmp_path: Path) -> None:
    assert code_of(tmp_path / "nowhere") == "artifact_missing"
    assert code_of("relative/folder") == "artifact_missing"
    assert code_of("s3://bucket/model") == "artifact_missing"
    assert code_of("file://elsewhere/model") == "artifact_missing"
    assert code_of("/a\0b") == "artifact_missing"
    assert code_of(tmp_path) == "mlmodel_missing"


def test_a_link_inside_is_refused_by_both_sides(vector: Path, tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "m")
    (folder / "more").symlink_to("/etc/hostname")
    assert code_of(folder) == "artifact_irregular"
    with pytest.raises(ValueError, match="symbolic link"):
        artifact_digest(folder)


def test_a_pipe_inside_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    folder = make_artifact(tmp_path / "m")
    os.mkfifo(folder / "pipe")
    assert code_of(folder) == "artifact_irregular"


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "mlmodel_invalid"),
        ("just text", "mlmodel_invalid"),
        ("a: [", "mlmodel_invalid"),
        ("!!python/object/apply:os.system ['true']", "mlmodel_invalid"),
        ("flavors: {}", "mlmodel_invalid"),
        ("flavors: {sklearn: {}}", "signature_missing"),
        ("flavors: {sklearn: {}}\nsignature: {inputs: 'not json'}", "signature_invalid"),
        ("flavors: {sklearn: {}}\nsignature: {inputs: '[1]'}", "signature_invalid"),
        ('flavors: {sklearn: {}}\nsignature: {inputs: \'[{"type": "long"}]\'}', "signature_invalid"),
    ],
)
def test_an_mlmodel_that_cannot_be_understood_is_refused(tmp_path: Path, text: str, code: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    assert code_of(tmp_path) == code


@pytest.mark.parametrize(
    "columns",
    [
        {"unknown": {}},
        {"month": {"minimum": 1}},
        {"month": {"min": "1"}},
        {"month": {"max": float("inf")}},
        {"month": {"min": True}},
        {"month": {"values": []}},
        {"month": {"values": "AA"}},
    ],
)
def test_a_constraint_that_serving_could_not_keep_is_refused(tmp_path: Path, columns: dict[str, Any]) -> None:
    assert code_of(make_artifact(tmp_path / "m", columns=columns)) == "constraints_invalid"
