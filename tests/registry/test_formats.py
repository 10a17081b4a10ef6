"""Formats are told by content; what may be registered is said with reasons."""

from __future__ import annotations

import io
import json
import os
import pickle
import stat
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from apps.kernel.errors import InvalidInput
from apps.registry.domain import archives
from apps.registry.domain.formats import Format
from apps.registry.domain.inspection import FileLook, FormatPolicy, Inspection, inspect_files, refusals
from apps.registry.domain.mlmodel import describe_mlmodel
from tests.registry.trees import INPUTS


def fitted() -> LogisticRegression:
    return LogisticRegression().fit(np.array([[0.0], [1.0]]), [0, 1])


class Touch:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, ("true",)


def zipped(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, body in members.items():
            archive.writestr(name, body)
    return file.getvalue()


def joblib_bytes(value: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    joblib.dump(value, file, **how)
    return file.getvalue()


def npy(array: Any) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def safetensors() -> bytes:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0\0\0\0"


def field(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | 2, len(body)]) + body


ONNX = b"\x08\x09" + field(2, b"skl2onnx") + field(7, b"\x12\x01g") + field(8, b"\x10\x15")
SAMPLES: dict[str, tuple[str, Callable[[], bytes], Format]] = {
    "safetensors": ("model.bin", safetensors, Format.SAFETENSORS),
    "onnx": ("model.bin", lambda: ONNX, Format.ONNX),
    "skops": ("model.bin", lambda: skops.io.dumps(fitted()), Format.SKOPS),
    "pickle": ("README.md", lambda: pickle.dumps(fitted()), Format.PICKLE),
    "pickle 0": ("README.md", lambda: pickle.dumps(Touch(), protocol=0), Format.PICKLE),
    "joblib": ("model.txt", lambda: joblib_bytes(fitted()), Format.JOBLIB),
    "joblib zlib": ("model.txt", lambda: joblib_bytes(fitted(), compress=3), Format.JOBLIB),
    "joblib xz": ("model.txt", lambda: joblib_bytes(fitted(), compress=("xz", 3)), Format.JOBLIB),
    "torch": ("model.zip", lambda: zipped({"m/data.pkl": pickle.dumps({"w": 1}), "m/data/0": b"x"}), Format.TORCH),
    "torch script": (
        "m.pt",
        lambda: zipped({"m/data.pkl": pickle.dumps(1), "m/code/m.py": b""}),
        Format.TORCH_SCRIPT,
    ),
    "keras": (
        "m",
        lambda: zipped({"config.json": b"{}", "metadata.json": b"{}", "model.weights.h5": b""}),
        Format.KERAS,
    ),
    "h5": ("m", lambda: b"\x89HDF\r\n\x1a\n" + b"\0" * 90, Format.HDF5),
    "saved model": ("a/saved_model.pb", lambda: b"\x08\x01" + field(2, b"\x0a\x00"), Format.SAVED_MODEL),
    "xgboost json": ("m", lambda: b'{"learner":{"attributes":{}},"version":[3,0,0]}', Format.XGBOOST),
    "xgboost ubj": ("m", lambda: b"{L" + struct.pack(">q", 7) + b"learner{", Format.XGBOOST),
    "lightgbm": ("m", lambda: b"tree\nversion=v4\nnum_class=1\n", Format.LIGHTGBM),
    "source": ("code/m.py", lambda: b"import os\n", Format.PYTHON_SOURCE),
    "array": ("m", lambda: npy(np.arange(3)), Format.NUMPY),
    "array of objects": ("m", lambda: npy(np.array([Touch()], dtype=object)), Format.PICKLE),
    "text": ("conda.yaml", lambda: b"channels:\n- x\ndependencies: []\n", Format.TEXT),
    "library": ("m", lambda: b"\x7fELF\x02" + b"\0" * 60, Format.NATIVE_CODE),
    "noise": ("m", lambda: bytes(range(255, 0, -1)) * 4, Format.UNKNOWN),
}


def inspected(files: dict[str, bytes]) -> Inspection:
    def opener(body: bytes) -> Callable[[], io.BytesIO]:
        return lambda: io.BytesIO(body)

    return inspect_files(FileLook(path, len(body), opener(body)) for path, body in files.items())


@pytest.mark.parametrize("name", SAMPLES)
def test_the_content_decides_and_not_the_name(name: str) -> None:
    path, made, expected = SAMPLES[name]
    found = inspected({path: made()})
    assert found.files[0].format is expected, found.files[0]


@pytest.mark.parametrize(
    "name", ["safetensors", "onnx", "skops", "xgboost json", "xgboost ubj", "lightgbm", "array", "text"]
)
def test_these_pass_without_a_rule(name: str) -> None:
    path, made, _ = SAMPLES[name]
    assert refusals(inspected({path: made()}), FormatPolicy()) == []


@pytest.mark.parametrize(
    "name", ["pickle", "joblib", "joblib zlib", "torch", "keras", "h5", "saved model", "library", "noise"]
)
def test_these_need_a_rule(name: str) -> None:
    path, made, _ = SAMPLES[name]
    assert len(refusals(inspected({path: made()}), FormatPolicy())) == 1


def test_a_pickle_is_refused_with_its_imports_and_the_way_out() -> None:
    (said,) = refusals(inspected({"model.pkl": pickle.dumps(fitted())}), FormatPolicy())
    assert "sklearn.linear_model._logistic.LogisticRegression" in said
    assert "skops" in said
    assert "safe" not in said.replace("safetensors", "")


def test_a_rule_lets_pickles_in_but_never_what_reaches_for_the_system() -> None:
    policy = FormatPolicy(allow_pickle=True)
    assert refusals(inspected({"model.pkl": pickle.dumps(fitted())}), policy) == []
    (said,) = refusals(inspected({"model.pkl": pickle.dumps(Touch())}), policy)
    assert "posix.system" in said


def test_source_must_be_declared() -> None:
    files = inspected({"code/m.py": b"x = 1\n", "model.py": b"x = 1\n", "codes/n.py": b"x = 1\n"})
    (said,) = refusals(files, FormatPolicy(), code=["code", "model.py"])
    assert said.startswith("codes/n.py ")


def test_an_archive_behind_a_text_is_an_archive() -> None:
    body = b"just a text\n" * 8000 + zipped({"m/data.pkl": pickle.dumps(Touch())})
    found = inspected({"README.md": body})
    assert found.files[0].format is Format.TORCH
    assert found.pickles[0].scan is not None
    assert found.pickles[0].scan.dangerous == ("posix.system",)


def test_a_lambda_layer_is_refused_even_where_keras_is_allowed() -> None:
    body = zipped({"config.json": b'{"class_name": "__lambda__"}', "metadata.json": b"{}"})
    policy = FormatPolicy(frozenset({Format.KERAS}))
    assert "Lambda" in refusals(inspected({"m.keras": body}), policy)[0]


def test_the_types_of_a_skops_file_are_listed() -> None:
    shown = inspected({"model.skops": skops.io.dumps(fitted())}).as_dict()
    assert shown["label"] == "skops"
    assert "sklearn.linear_model._logistic.LogisticRegression" in shown["types"]


def raw_names(*names: str, link: bool = False) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            info = zipfile.ZipInfo("x")
            info.filename = name
            info.external_attr = (stat.S_IFLNK if link else stat.S_IFREG | 0o644) << 16
            archive.writestr(info, "x")
    return file.getvalue()


@pytest.mark.parametrize("name", ["../up", "/etc/passwd", "a/../../b", "a\\b", "c:x", "a//b", "a\x01b"])
def test_a_member_that_leads_out_is_refused(name: str) -> None:
    assert refusals(inspected({"m.zip": raw_names(name)}), FormatPolicy(frozenset({Format.ARCHIVE})))


def test_links_doubles_bombs_and_a_million_entries_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    allowed = FormatPolicy(frozenset({Format.ARCHIVE, Format.SKOPS}))

    def said(body: bytes) -> str:
        return refusals(inspected({"m.zip": body}), allowed)[0]

    assert "symbolic link" in said(raw_names("a", link=True))
    with pytest.warns(UserWarning, match="Duplicate name"):
        doubled = zipped({"a": b"1"})[:0] + raw_names("a", "a")
    assert "twice" in said(doubled)
    assert "bomb" in said(zipped({"a": b"\0" * 80_000_000}))
    many = bytearray(zipped({"a": b"1"}))
    end = many.rindex(b"PK\x05\x06")
    many[end + 8 : end + 12] = struct.pack("<HH", 60_000, 60_000)
    assert "60,000 entries" in said(bytes(many))
    monkeypatch.setattr(archives, "MAX_ENTRIES", 50)
    assert "entries" in said(zipped({str(number): b"" for number in range(60)}))


@pytest.mark.parametrize("cut", [10, 30, 60])
def test_a_cut_archive_is_refused_with_a_sentence(cut: int) -> None:
    assert refusals(inspected({"m.zip": zipped({"a": b"x" * 100})[:-cut]}), FormatPolicy(frozenset({Format.ARCHIVE})))


def mlmodel(**more: Any) -> bytes:
    signature = {"inputs": json.dumps(list(INPUTS)), "outputs": None}
    return json.dumps({"flavors": {"sklearn": {}}, "signature": signature, **more}).encode()


def test_declared_code_is_read_from_mlmodel() -> None:
    flavors = {"python_function": {"code": "code", "model_code_path": "/home/alice/late.py"}, "x": {"code": "../up"}}
    assert describe_mlmodel(mlmodel(flavors=flavors)).code == ("code", "late.py")


def test_a_yaml_bomb_is_refused_at_once() -> None:
    lines = ["a0: &a0 [x]"] + [f"a{n}: &a{n} [" + ",".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 12)]
    with pytest.raises(InvalidInput, match="refers to itself"):
        describe_mlmodel(("flavors: {x: {}}\n" + "\n".join(lines)).encode())
    with pytest.raises(InvalidInput, match="refers to itself"):
        describe_mlmodel(b"flavors: &f {x: *f}")


def test_a_huge_mlmodel_is_refused() -> None:
    with pytest.raises(InvalidInput, match="4 MiB"):
        describe_mlmodel(b"#" * (4 * 1024 * 1024 + 1))


def test_nothing_here_imports_what_could_load_a_model() -> None:
    for path in (Path(archives.__file__).parent).glob("*.py"):
        text = path.read_text()
        assert "import pickle\n" not in text
        assert "import joblib" not in text
