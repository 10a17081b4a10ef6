"""The verifier that needs nothing but the export names the first bad entry."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from apps.audit.domain.chain import settled
from apps.audit.drivers.keystore import key_id, public_text
from apps.audit.drivers.keystore import sign as sign_text
from apps.audit.services.checkpoints import key_rotate
from apps.kernel.actor import SYSTEM
from apps.kernel.canonical import canonical_json
from cli import audit_verify
from cli.audit_verify import Unusable, canonical, entry_hash, verify
from tests.audit.logs import export, keys_file, rebuild, sign, write, write_old

Entries = list[dict[str, Any]]
pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def own_keys(settings: Any, tmp_path: Path) -> None:
    settings.PILOTHOUSE_AUDIT_KEYS = str(tmp_path / "keys")


@pytest.fixture
def a_log() -> None:
    """Six old entries, checkpoint, then new ones, checkpoint; the key's own entry is among them."""
    write_old(6)
    write(6)
    sign()
    write(7)
    sign()


def test_a_whole_export_of_old_and_new_entries_is_intact(a_log: None, tmp_path: Path) -> None:
    report = verify(export(tmp_path), keys=keys_file(tmp_path))
    assert (report.is_intact, report.reason) == (True, "")
    assert report.entries == report.last_seq == 20
    assert (report.checkpoints, report.signed_seq) == (2, 20)


def mutate(entries: Entries) -> None:
    entries[8]["actor"]["label"] = "mallory"


def relabel_chain(entries: Entries) -> None:
    entries[8]["actor"]["chain"][0] = "user:2 mallory"


def delete(entries: Entries) -> None:
    del entries[8]


def reorder(entries: Entries) -> None:
    entries[8], entries[9] = entries[9], entries[8]


def insert(entries: Entries) -> None:
    forged = json.loads(json.dumps(entries[8]))
    forged["prev_hash"] = entries[7]["hash"]
    forged["subject"]["label"] = "forged"
    forged["hash"] = entry_hash(forged)
    entries.insert(8, forged)


def repeat(entries: Entries) -> None:
    entries.insert(8, entries[7])


def downgrade(entries: Entries) -> None:
    entries[8]["version"] = 1
    entries[8]["hash"] = entry_hash(entries[8])


def nonsense(entries: Entries) -> None:
    entries[8]["actor"] = "alice"


@pytest.mark.parametrize(
    ("change", "first_bad"),
    [
        (mutate, 9),
        (relabel_chain, 9),
        (delete, 9),
        (reorder, 9),
        (insert, 10),
        (repeat, 9),
        (downgrade, 9),
        (nonsense, 9),
    ],
)
def test_the_first_bad_entry_is_named(
    a_log: None, tmp_path: Path, change: Callable[[Entries], None], first_bad: int
) -> None:
    report = verify(export(tmp_path, change), keys=keys_file(tmp_path))
    assert report.first_bad == first_bad, report.reason


def test_entries_dropped_from_the_end_are_missed_by_the_last_line(a_log: None, tmp_path: Path) -> None:
    report = verify(export(tmp_path, lambda entries: entries.__delitem__(slice(-3, None))), keys=keys_file(tmp_path))
    assert report.first_bad == 18


def test_entries_dropped_together_with_the_last_line_are_missed_by_the_checkpoint_outside(
    a_log: None, tmp_path: Path
) -> None:
    path = export(tmp_path)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    sink = tmp_path / "checkpoints.jsonl"
    sink.write_text("".join(json.dumps(one) + "\n" for one in lines if one["object"] == "audit_checkpoint"))
    kept = [one for one in lines if one["object"] != "audit_checkpoint" and one.get("seq", 0) <= 16]
    kept[-1] = {"object": "audit_export_end", "count": 16, "last_seq": 16}
    path.write_text("".join(json.dumps(one) + "\n" for one in kept))
    assert verify(path).is_intact  # inside the file nothing is wrong: this is why checkpoints leave the house
    report = verify(path, checkpoints=sink, keys=keys_file(tmp_path))
    assert report.first_bad == 17


def test_a_log_made_anew_from_one_entry_on_is_caught_by_the_next_checkpoint(a_log: None, tmp_path: Path) -> None:
    def change(entries: Entries) -> None:
        entries[14]["subject"]["label"] = "nothing to see"
        rebuild(entries, 14, entry_hash)

    report = verify(export(tmp_path, change), keys=keys_file(tmp_path))
    assert (report.first_bad, report.suspect_from) == (20, 13)


def test_a_forger_with_a_key_of_their_own_is_not_believed(a_log: None, tmp_path: Path) -> None:
    """The whole log made anew, signed anew, with the forger's key inside the export."""
    trusted, path, forger = keys_file(tmp_path), export(tmp_path), Ed25519PrivateKey.generate()
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    entries = [one for one in lines if one["object"] == "audit_event"]
    entries[0]["actor"]["label"] = "nobody"
    rebuild(entries, 0, entry_hash)
    for one in lines:
        if one["object"] == "audit_key":
            one.update(key_id=key_id(forger), public=public_text(forger))
    prev = audit_verify.GENESIS
    for one in lines:
        if one["object"] == "audit_checkpoint":
            one.update(key_id=key_id(forger), prev=prev, hash=entries[one["seq"] - 1]["hash"])
            one["signature"] = sign_text(forger, audit_verify.signed_text(one))
            prev = audit_verify.checkpoint_hash(one)
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    alone = verify(path)
    assert alone.is_intact
    assert any("kept elsewhere" in note for note in alone.notes)
    assert "none of the given keys" in verify(path, keys=trusted).reason


def test_a_line_cut_off_in_the_middle_is_found(a_log: None, tmp_path: Path) -> None:
    path = export(tmp_path)
    raw = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(raw[:-4]) + raw[-4][:40])
    assert verify(path, keys=keys_file(tmp_path)).first_bad == 18


def test_lines_after_the_end_are_found(a_log: None, tmp_path: Path) -> None:
    path = export(tmp_path)
    path.write_bytes(path.read_bytes() + b'{"object": "audit_event"}\n')
    assert verify(path).first_bad == 21


def test_checkpoints_after_a_rotation_are_checked_by_both_keys(a_log: None, tmp_path: Path) -> None:
    old = keys_file(tmp_path).read_text()
    key_rotate(actor=SYSTEM)
    write(2)
    sign()
    path, both = export(tmp_path), keys_file(tmp_path)
    report = verify(path, keys=both)
    assert (report.is_intact, report.checkpoints) == (True, 4)
    both.write_text(old)
    assert "none of the given keys" in verify(path, keys=both).reason


def test_a_filtered_export_is_refused_unless_asked_for_in_parts(a_log: None, tmp_path: Path) -> None:
    path = export(tmp_path, lambda entries: entries.__delitem__(slice(0, 5)))
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[0]["is_whole"], lines[-1]["count"] = False, 15
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    with pytest.raises(Unusable, match="filtered"):
        verify(path)
    assert verify(path, is_partial=True).is_intact
    path.write_text(path.read_text().replace("mo_3", "mo_4", 1))
    assert not verify(path, is_partial=True).is_intact


@pytest.mark.parametrize("text", ["", "{}\n", "not json\n", '{"object": "audit_export", "format": 7}\n'])
def test_what_is_no_export_is_no_broken_log(tmp_path: Path, text: str) -> None:
    path = tmp_path / "x"
    path.write_text(text)
    with pytest.raises(Unusable):
        verify(path)


def test_the_file_runs_alone_and_knows_nothing_of_the_product(a_log: None, tmp_path: Path) -> None:
    path, keys = export(tmp_path), keys_file(tmp_path)
    alone = tmp_path / "elsewhere" / "check.py"
    alone.parent.mkdir()
    alone.write_text(Path(audit_verify.__file__).read_text())
    argv = [sys.executable, "-I", str(alone), str(path), "--keys", str(keys)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=alone.parent, check=False)
    assert (done.returncode, done.stdout[:18], done.stderr) == (0, "Intact: 20 entries", "")
    path.write_text(path.read_text().replace("mo_3", "mo_4", 1))
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, cwd=alone.parent, check=False)
    assert done.returncode == 1
    assert "BROKEN at entry 10" in done.stdout
    names = {
        (node.module or "").split(".")[0] if isinstance(node, ast.ImportFrom) else node.names[0].name.split(".")[0]
        for node in ast.walk(ast.parse(alone.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert names - set(sys.stdlib_module_names) == {"cryptography"}


texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
awkward = [1e20, -0.0, 5e-324, 1e308, 1e-7, 123456789012345680.0, 0.1 + 0.2, 2**53 + 1, 1e16, 1.5e300]
nasty = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from(awkward)
    | texts
    | st.sampled_from(["\U0001f6a2", "\x7f", "\u2028", "</"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text('abé🚢"\\', max_size=3), inner, max_size=4),
    max_leaves=15,
)


@given(value=nasty)
def test_both_spellings_of_canonical_json_agree(value: Any) -> None:
    ours = canonical_json(settled(value))
    assert canonical(json.loads(json.dumps(value))) == ours
    assert canonical(json.loads(ours)) == ours  # writing down what was read changes nothing


@given(value=nasty)
def test_an_entry_exported_is_an_entry_that_verifies(value: Any) -> None:
    from datetime import UTC, datetime

    from apps.audit.domain.chain import GENESIS
    from apps.audit.domain.chain import entry_hash as product_hash
    from apps.audit.models import Event
    from apps.audit.selectors import event_document

    event = Event(
        seq=1, version=2, at=datetime(2026, 3, 1, tzinfo=UTC), actor_kind="user", actor_id="1", actor_label="é",
        actor_chain=["user:1 é"], verb="model.created", subject_kind="m", subject_id="1", subject_label="x",
        detail={"value": settled(value)}, prev_hash=GENESIS,
    )  # fmt: skip
    event.hash = product_hash(event)
    assert entry_hash(json.loads(json.dumps(event_document(event)))) == event.hash
