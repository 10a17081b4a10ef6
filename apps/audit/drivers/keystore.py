"""Where the private key of the checkpoints is kept. The public keys are in the database and are no secret."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

from apps.kernel.errors import Unavailable


class KeyStore(Protocol):
    """Holds one private key at a time. A vault implements the same three."""

    def load(self) -> Ed25519PrivateKey | None:
        """The key in use, None before the first. Raises Unavailable when it cannot be read."""
        ...

    def create(self, key: Ed25519PrivateKey) -> Ed25519PrivateKey:
        """Keep ``key`` as the first one, unless somebody else was faster: whatever is kept now is returned."""
        ...

    def replace(self, key: Ed25519PrivateKey) -> None:
        """Keep ``key`` instead of the one before, which is gone."""
        ...


class FileKeyStore:
    """A PEM file that only its owner can read. Processes that share the folder share the key."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "signing.key"

    def load(self) -> Ed25519PrivateKey | None:
        try:
            if not self.path.exists():
                return None
            mode = self.path.stat().st_mode & 0o077
            raw = self.path.read_bytes()
        except OSError as error:
            raise _unreadable(self.path, error.strerror or str(error)) from error
        if mode:
            raise _unreadable(self.path, f"others can read it; chmod 600 {self.path.name}")
        try:
            key = load_pem_private_key(raw, password=None)
        except ValueError as error:
            raise _unreadable(self.path, "it holds no private key") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise _unreadable(self.path, "its key is not an Ed25519 key")
        return key

    def create(self, key: Ed25519PrivateKey) -> Ed25519PrivateKey:
        fresh = self._written(key)
        try:
            os.link(fresh, self.path)  # fails when it exists, and never shows half a file
        except FileExistsError:
            pass
        except OSError as error:
            raise _unreadable(self.path, error.strerror or str(error)) from error
        finally:
            fresh.unlink(missing_ok=True)
        return self.load() or key

    def replace(self, key: Ed25519PrivateKey) -> None:
        self._written(key).replace(self.path)

    def _written(self, key: Ed25519PrivateKey) -> Path:
        folder = self.path.parent
        fresh = folder / f".{key_id(key)[-8:]}-{os.getpid()}.key"
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(handle, "wb") as file:
                file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise _unreadable(self.path, error.strerror or str(error)) from error
        return fresh


def public_text(key: Ed25519PrivateKey) -> str:
    """The raw public key in base64."""
    return base64.b64encode(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)).decode("ascii")


def key_id(key: Ed25519PrivateKey) -> str:
    """``ed25519:`` and the first 16 hex digits of the SHA-256 of the raw public key."""
    return "ed25519:" + hashlib.sha256(base64.b64decode(public_text(key))).hexdigest()[:16]


def sign(key: Ed25519PrivateKey, text: bytes) -> str:
    """The Ed25519 signature in base64."""
    return base64.b64encode(key.sign(text)).decode("ascii")


def is_signed(public: str, text: bytes, signature: str) -> bool:
    """Whether ``signature`` over ``text`` is right."""
    try:
        Ed25519PublicKey.from_public_bytes(base64.b64decode(public)).verify(base64.b64decode(signature), text)
    except (InvalidSignature, ValueError):
        return False
    return True


def _unreadable(path: Path, why: str) -> Unavailable:
    return Unavailable("audit_key_unavailable", f"The audit log's signing key {path.name} cannot be used: {why}.")
