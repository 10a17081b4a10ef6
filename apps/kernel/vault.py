"""Secrets at rest: AES-256-GCM, bound to the place where they stand.

A sealed text is ``v1.<key id>.<base64 of nonce + ciphertext + tag>``. The associated data are table, row and field, so
a ciphertext that was copied to another row does not open. Keys come from a ring in a file (mode 0600, made at the first
use): the current one seals, all of them open.

    sealed = seal("s3cret", Place("targets_target", target.pk, "token"))
    open_sealed(sealed, Place("targets_target", target.pk, "token"))

A field that holds sealed text is announced with ``sealed_field``; ``vault_rotate`` then seals it anew under a new key.
"""

from __future__ import annotations

import base64
import json
import os
import secrets
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from django.apps import apps
from django.conf import settings
from django.db import transaction

from apps.kernel.canonical import canonical_json
from apps.kernel.errors import Unavailable

_NONCE_BYTES: Final = 12
_ANNOUNCED: dict[tuple[str, str], Callable[[object], str]] = {}


class VaultFault(Unavailable):
    """A sealed text does not open here: moved, altered, or sealed by a key that the ring lacks. No retry helps."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a secret stands; part of what is authenticated."""

    table: str
    row: str
    field: str

    @property
    def associated_data(self) -> bytes:
        # JSON, so that ("ab", "c") and ("a", "bc") are not the same bytes.
        return canonical_json([self.table, str(self.row), self.field]).encode("ascii")


@dataclass(frozen=True, slots=True, repr=False)
class Ring:
    """Key ids and 32-byte keys; ``current`` seals."""

    current: str
    keys: dict[str, bytes]


def seal(text: str, place: Place) -> str:
    """``text`` as it may stand in the database."""
    ring = _ring()
    nonce = secrets.token_bytes(_NONCE_BYTES)
    box = AESGCM(ring.keys[ring.current]).encrypt(nonce, text.encode("utf-8"), place.associated_data)
    return f"v1.{ring.current}.{base64.urlsafe_b64encode(nonce + box).decode('ascii')}"


def open_sealed(sealed: str, place: Place) -> str:
    """The secret. Raises VaultFault; its text names the place and never any part of the secret."""
    version, _, rest = sealed.partition(".")
    key_id, _, body = rest.partition(".")
    key = _ring().keys.get(key_id)
    where = f"{place.table}.{place.field} of {place.row}"
    if version != "v1" or key is None:
        raise VaultFault(
            "vault_key_missing", f"{where} was sealed by a key that {settings.PILOTHOUSE_VAULT_FILE.name} lacks."
        )
    try:
        raw = base64.b64decode(body, altchars=b"-_", validate=True)
        return AESGCM(key).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], place.associated_data).decode("utf-8")
    except (InvalidTag, ValueError) as error:
        raise VaultFault(
            "vault_refused", f"{where} does not open: it was altered, or moved from another place."
        ) from error


def sealed_field(model: str, field: str, row: Callable[[object], str] = lambda row: str(row.pk)) -> None:  # type: ignore[attr-defined]
    """Announce that ``field`` of ``model`` ("app.Model") holds sealed text. ``row`` gives what stands in Place.row."""
    _ANNOUNCED[(model, field)] = row


def vault_rotate() -> int:
    """A new current key, and every announced field sealed by it; returns how many. Old keys stay in the ring, so other
    processes and backups can still open; a crash in the middle leaves both kinds readable, running again ends it."""
    ring = _ring()
    fresh = _new_key_id(ring)
    _write(Ring(fresh, {**ring.keys, fresh: secrets.token_bytes(32)}))
    return sum(_reseal(model, field, row) for (model, field), row in sorted(_ANNOUNCED.items()))


def _reseal(model_name: str, field: str, row_of: Callable[[object], str]) -> int:
    model = apps.get_model(model_name)
    count = 0
    for pk in list(model._default_manager.exclude(**{field: ""}).values_list("pk", flat=True)):
        with transaction.atomic():
            row = model._default_manager.select_for_update().filter(pk=pk).first()
            if row is None:
                continue
            place = Place(model._meta.db_table, row_of(row), field)
            model._default_manager.filter(pk=pk).update(**{field: seal(open_sealed(getattr(row, field), place), place)})
            count += 1
    return count


_cached: tuple[tuple[str, int, int], Ring] | None = None


def _ring() -> Ring:
    """The ring as the file has it now: read again when the file changed, so that a rotation reaches every process."""
    global _cached  # noqa: PLW0603
    path: Path = settings.PILOTHOUSE_VAULT_FILE
    try:
        stat = path.stat()
    except FileNotFoundError:
        _create(path)
        stat = path.stat()
    mark = (str(path), stat.st_mtime_ns, stat.st_ino)
    if _cached is None or _cached[0] != mark:
        _cached = (mark, _parsed(path.read_text(encoding="utf-8"), path))
    return _cached[1]


def _parsed(text: str, path: Path) -> Ring:
    try:
        data = json.loads(text)
        keys = {name: base64.b64decode(value, validate=True) for name, value in data["keys"].items()}
        current = data["current"]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise VaultFault("vault_file_broken", f"{path} is no key ring; restore it from a backup.") from error
    if current not in keys or any(len(key) != 32 for key in keys.values()):
        raise VaultFault("vault_file_broken", f"{path} names no current key, or one that has not 32 bytes.")
    return Ring(current, keys)


def _create(path: Path) -> None:
    """The first ring. Two processes may start at once: whoever links first wins, and the other reads that ring."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    ring = Ring("k1", {"k1": secrets.token_bytes(32)})
    temporary = _written(ring, path.parent)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        temporary.unlink()


def _write(ring: Ring) -> None:
    path: Path = settings.PILOTHOUSE_VAULT_FILE
    _written(ring, path.parent).replace(path)


def _written(ring: Ring, folder: Path) -> Path:
    keys = {name: base64.b64encode(key).decode("ascii") for name, key in ring.keys.items()}
    handle, name = tempfile.mkstemp(prefix=".vault-", dir=folder)  # mkstemp makes it 0600
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump({"current": ring.current, "keys": keys}, file)
        file.flush()
        os.fsync(file.fileno())
    return Path(name)


def _new_key_id(ring: Ring) -> str:
    numbers = [int(name[1:]) for name in ring.keys if name[1:].isdigit()]
    return f"k{max(numbers, default=0) + 1}"
