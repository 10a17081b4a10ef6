"""What a pickle would import is told without loading it, and "safe" is never said."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import pickle
import pickletools
import zlib
from pathlib import Path
from typing import Any

import cloudpickle
import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.ensemble import RandomForestClassifier

from apps.registry.domain.compressed import Bomb, unpacked
from apps.registry.domain.pickle_words import is_dangerous
from apps.registry.domain.pickles import PickleScan, scan_pickle, would_run

PROTOCOLS = range(6)


class Canary:
    """Writes a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


def scanned(data: bytes, **how: Any) -> PickleScan:
    return scan_pickle(lambda: io.BytesIO(data), **how)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_import_of_every_protocol_is_found_and_nothing_runs(tmp_path: Path, protocol: int) -> None:
    data = pickle.dumps({"a": [1, Canary(tmp_path / "ran")]}, protocol=protocol)
    found = scanned(data)
    assert found.imports == found.dangerous == ("posix.system",)
    assert found.is_complete
    assert would_run(data)
    assert not (tmp_path / "ran").exists()
    pickle.loads(data)
    assert (tmp_path / "ran").exists()  # the canary does sing when it is loaded: this test can fail


@pytest.mark.parametrize("protocol", range(2, 6))
def test_the_imports_are_those_that_the_unpickler_asks_for(protocol: int) -> None:
    model = RandomForestClassifier(5).fit(np.random.default_rng(1).random((50, 3)), [0, 1] * 25)
    data = pickle.dumps(model, protocol=protocol)
    asked = set()

    class Asking(pickle.Unpickler):
        def find_class(self, module: str, name: str) -> Any:
            asked.add(f"{module}.{name}")
            return super().find_class(module, name)

    Asking(io.BytesIO(data)).load()
    found = scanned(data)
    assert set(found.imports) == asked
    assert found.is_complete
    assert found.dangerous == ()


def test_arrays_that_joblib_writes_between_the_instructions_are_skipped_over(tmp_path: Path) -> None:
    forest = RandomForestClassifier(3).fit(np.random.default_rng(1).random((50, 3)), [0, 1] * 25)
    arrays = [
        np.array(["abc"]),
        np.array([True]),
        np.array(["2020-01-01"], dtype="M8[ns]"),
        np.zeros((3, 4), "f4", "F"),
    ]
    arrays.append(np.array([(1, 2.5)], dtype=[("a", "i8"), ("b", "f4", (2,))]))
    file = io.BytesIO()
    joblib.dump({"m": forest, "a": arrays, "last": Canary(tmp_path / "ran")}, file)
    found = scanned(file.getvalue())
    assert found.is_complete, found.notes
    assert found.dangerous == ("posix.system",)


def test_an_import_hidden_in_an_array_of_objects_is_found(tmp_path: Path) -> None:
    file = io.BytesIO()
    joblib.dump([np.array([Canary(tmp_path / "ran"), None], dtype=object), np.arange(3)], file)
    found = scanned(file.getvalue())
    assert found.is_complete, found.notes
    assert "posix.system" in found.imports


def test_bytes_that_only_a_plain_loader_would_run_are_found_behind_a_joblib_array() -> None:
    """The array's raw bytes are instructions too: joblib skips them, pickle.load would run them."""
    file = io.BytesIO()
    joblib.dump(np.frombuffer(b"." * 64, dtype="u1"), file)
    hidden = b"cos\nsystem\n(S'true'\ntR."
    start, _, tail = file.getvalue().partition(b"K\x10ub")  # with an alignment of None no padding follows
    data = start + b"Nub" + tail.lstrip(b"\xff\x03").replace(b"." * 64, hidden + b"." * (64 - len(hidden)))
    assert "os.system" in scanned(data).imports


def test_compiled_code_inside_is_said(tmp_path: Path) -> None:
    found = scanned(cloudpickle.dumps(lambda x: x + 1))
    assert found.is_cloudpickle
    assert "compiled code" in " ".join(found.notes)


def test_a_pickle_in_the_bytes_of_a_pickle_is_found() -> None:
    inner = pickle.dumps(Canary(Path("/nowhere")))
    assert "posix.system" in scanned(pickle.dumps({"later": inner})).imports


def test_a_pickle_behind_the_first_is_found() -> None:
    assert "posix.system" in scanned(pickle.dumps(1) + pickle.dumps(Canary(Path("/nowhere")))).imports


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"\x80\x04\x8c\x02os\x94\x8c\x03sys\x94K\x01\x93.", "computed"),
        (b"\x80\x02\x82\x01.", "extension registry"),
        (b"\x80\x04\x95", "ends in the middle"),
        (b"\x80\x04\xff.", "no instruction"),
        (b"cos\nsystem\n(S'x'\ntRgarbage", "cannot be read"),
        (b"\x80\x04R.", "empty stack"),
        (b"\x80\x04h\x05.", "memo"),
        (b"\x80\x04\x8b\xff\xff\xff\xff.", "negative"),
        (b"\x80\x04\x8e" + b"\xff" * 8 + b".", "ends in the middle"),
    ],
)
def test_what_cannot_be_told_is_said(data: bytes, said: str) -> None:
    found = scanned(data)
    assert not found.is_complete
    assert said in " ".join(found.notes)


def test_a_name_is_found_through_the_memo() -> None:
    names = b"\x8c\x05posix\x94\x8c\x06system\x94"
    assert scanned(b"\x80\x04" + names + b"0" * 2 + b"h\x00h\x01\x93)R.").imports == ("posix.system",)


def test_too_many_instructions_are_not_all_looked_at() -> None:
    found = scanned(pickle.dumps(list(range(2000))), max_instructions=500)
    assert not found.is_complete
    assert "more instructions" in found.notes[0]


@pytest.mark.parametrize(
    "text",
    [
        b"channels:\n- conda-forge\ndependencies:\n- python=3.11\n",
        b"import os\nos.system('x')\n",
        b'{"a": 1}',
        b"flavors:\n  sklearn: {}\n",
        b"mlflow==3.17.2\nscikit-learn==1.9.0\n",
        b"tree\nversion=v4\nnum_class=1\n",
        b"a,b\n1,2\n",
    ],
)
def test_ordinary_texts_are_no_pickles(text: bytes) -> None:
    assert not would_run(text)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_no_bytes_make_the_scan_raise(data: bytes) -> None:
    found = scanned(data)
    assert isinstance(found.is_complete, bool)
    would_run(data)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(VALUES, st.sampled_from(PROTOCOLS), st.booleans())
def test_plain_values_of_every_protocol_are_read_to_their_end(value: Any, protocol: int, optimized: bool) -> None:
    data = pickle.dumps(value, protocol=protocol)
    if optimized:
        data = pickletools.optimize(data)
    found = scanned(data)
    assert found.is_complete, found.notes
    assert not {name for name in found.imports if is_dangerous(name)}


@pytest.mark.parametrize(
    ("name", "pack"), [("gzip", gzip.compress), ("zlib", zlib.compress), ("bz2", bz2.compress), ("xz", lzma.compress)]
)
def test_compressed_streams_are_scanned_and_bombs_stop(name: str, pack: Any) -> None:
    data = pickle.dumps([Canary(Path("/nowhere")), os.urandom(200_000)])
    packed = pack(data)
    assert scan_pickle(lambda: unpacked(io.BytesIO(packed), name)).imports == ("posix.system",)
    with unpacked(io.BytesIO(packed), name) as stream:
        assert stream.read() == data


def test_a_bomb_stops_before_it_fills_anything() -> None:
    packer = bz2.BZ2Compressor()
    bomb = b"".join(packer.compress(b"\0" * 1024 * 1024) for _ in range(200)) + packer.flush()
    read = 0

    def drain() -> None:
        nonlocal read
        with unpacked(io.BytesIO(bomb), "bz2") as stream:
            while piece := stream.read(1024 * 1024):
                read += len(piece)

    with pytest.raises(Bomb):
        drain()
    assert read < 70 * 1024 * 1024
