"""Secrets at rest: they open where they were sealed and nowhere else."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from apps.kernel import vault
from apps.kernel.vault import Place, VaultFault, open_sealed, seal

HERE = Place("targets_target", "tg_1", "token")


@pytest.fixture(autouse=True)
def ring(settings: Any, tmp_path: Path) -> Path:
    settings.PILOTHOUSE_VAULT_FILE = tmp_path / "secrets" / "vault.json"
    return Path(settings.PILOTHOUSE_VAULT_FILE)


def test_what_is_sealed_opens_and_does_not_show() -> None:
    sealed = seal("s3cret of a target", HERE)
    assert open_sealed(sealed, HERE) == "s3cret of a target"
    assert "s3cret" not in sealed
    assert seal("s3cret of a target", HERE) != sealed


@pytest.mark.parametrize(
    "elsewhere",
    [Place("targets_other", "tg_1", "token"), Place("targets_target", "tg_2", "token"),
     Place("targets_target", "tg_1", "x"), Place("targets_targett", "g_1", "token")],
)  # fmt: skip
def test_a_ciphertext_that_was_moved_does_not_open(elsewhere: Place) -> None:
    with pytest.raises(VaultFault, match="moved") as refused:
        open_sealed(seal("s3cret", HERE), elsewhere)
    assert not refused.value.is_retryable
    assert "s3cret" not in str(refused.value)


@given(position=st.integers(0, 40), bit=st.integers(0, 7))
def test_one_changed_bit_is_noticed(position: int, bit: int) -> None:
    import base64

    head, _, body = seal("s3cret", HERE).rpartition(".")
    raw = bytearray(base64.urlsafe_b64decode(body))
    raw[position % len(raw)] ^= 1 << bit
    with pytest.raises(VaultFault):
        open_sealed(f"{head}.{base64.urlsafe_b64encode(bytes(raw)).decode()}", HERE)


@pytest.mark.parametrize("text", ["", "plain", "v1.", "v1.k9.AAAA", "v2.k1.AAAA", "v1.k1.!!!!", "v1.k1."])
def test_what_was_never_sealed_is_refused(text: str) -> None:
    seal("x", HERE)
    with pytest.raises(VaultFault):
        open_sealed(text, HERE)


def test_the_ring_is_made_once_for_its_owner_only(ring: Path) -> None:
    seal("x", HERE)
    assert stat.S_IMODE(ring.stat().st_mode) == 0o600
    before = ring.read_text()
    vault._cached = None
    seal("y", HERE)
    assert ring.read_text() == before
    assert [path.name for path in ring.parent.iterdir()] == ["vault.json"]


def test_processes_that_start_together_agree_on_one_ring(ring: Path) -> None:
    program = (
        "import sys, pathlib; from django.conf import settings;"
        "settings.configure(PILOTHOUSE_VAULT_FILE=pathlib.Path(sys.argv[1]), INSTALLED_APPS=[]);"
        "from apps.kernel.vault import seal, Place;"
        "print(seal('x', Place('targets_target', 'tg_1', 'token')))"
    )
    root = Path(__file__).resolve().parents[2]
    started = [
        subprocess.Popen([sys.executable, "-c", program, str(ring)], cwd=root, stdout=subprocess.PIPE, env=os.environ)
        for _ in range(4)
    ]
    sealed = [process.communicate(timeout=120)[0].decode().strip() for process in started]
    assert [open_sealed(text, HERE) for text in sealed] == ["x"] * 4


@pytest.mark.parametrize(
    "text", ["", "{}", '{"current": "k1", "keys": {}}', '{"current": "k1", "keys": {"k1": "AAAA"}}']
)
def test_a_broken_ring_is_said_and_never_replaced(ring: Path, text: str) -> None:
    ring.parent.mkdir()
    ring.write_text(text)
    with pytest.raises(VaultFault):
        seal("x", HERE)
    assert ring.read_text() == text


@pytest.mark.django_db
def test_a_rotation_seals_everything_anew_and_old_text_still_opens(ring: Path) -> None:
    from apps.accounts.models import SigningKey

    rows = [SigningKey(public_pem="") for _ in range(3)]
    place = SigningKey._meta.db_table
    for row in rows:
        row.private_sealed = seal(f"secret of {row.kid}", Place(place, row.kid, "private_sealed"))
        row.save()
    old = rows[0].private_sealed
    assert vault.vault_rotate() == 3
    assert json.loads(ring.read_text())["current"] == "k2"
    for row in SigningKey.objects.all():
        assert row.private_sealed.startswith("v1.k2.")
        assert open_sealed(row.private_sealed, Place(place, row.kid, "private_sealed")) == f"secret of {row.kid}"
    assert open_sealed(old, Place(place, rows[0].kid, "private_sealed")) == f"secret of {rows[0].kid}"


@pytest.mark.django_db
def test_swapping_two_rows_in_the_database_is_noticed() -> None:
    from apps.accounts.models import SigningKey

    table = SigningKey._meta.db_table
    one, two = SigningKey(public_pem=""), SigningKey(public_pem="")
    for row in (one, two):
        row.private_sealed = seal(f"secret of {row.kid}", Place(table, row.kid, "private_sealed"))
    one.private_sealed, two.private_sealed = two.private_sealed, one.private_sealed
    for row in (one, two):
        with pytest.raises(VaultFault):
            open_sealed(row.private_sealed, Place(table, row.kid, "private_sealed"))
