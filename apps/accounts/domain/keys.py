"""The text of an API key: ``plh_<id>_<secret><crc>``.

``id`` is 12 and ``secret`` 32 characters of base 62 (190 random bits), ``crc`` the CRC-32 of ``<id>_<secret>`` in 6
characters of base 62: a scanner that finds a key in a log can tell, offline, that it is one.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import string
import zlib
from dataclasses import dataclass

_ALPHABET = string.digits + string.ascii_uppercase + string.ascii_lowercase
_KEY = re.compile(r"plh_([0-9A-Za-z]{12})_([0-9A-Za-z]{32})([0-9A-Za-z]{6})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Key:
    """``repr`` hides the secret, so that a key in a traceback is not a key in a log."""

    id: str
    secret: str

    def __repr__(self) -> str:
        return f"Key(plh_{self.id}_…)"

    @property
    def text(self) -> str:
        """What the holder keeps; shown once."""
        return f"plh_{self.id}_{self.secret}{checksum(self.id, self.secret)}"

    @property
    def secret_hash(self) -> str:
        """What the database keeps: a plain SHA-256 is enough for 190 random bits."""
        return hashlib.sha256(self.secret.encode("ascii")).hexdigest()


def make_key() -> Key:
    """A new random key."""
    return Key(_random(12), _random(32))


def parse_key(text: str) -> Key | None:
    """The key that ``text`` spells, None when it is not one (shape or checksum). Needs no database."""
    match = _KEY.fullmatch(text)
    if match is None or checksum(match[1], match[2]) != match[3]:
        return None
    return Key(match[1], match[2])


def checksum(id: str, secret: str) -> str:  # noqa: A002
    """CRC-32 of ``<id>_<secret>`` in base 62, six characters, most significant first."""
    value = zlib.crc32(f"{id}_{secret}".encode("ascii"))
    return "".join(_ALPHABET[value // 62**power % 62] for power in range(5, -1, -1))


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
