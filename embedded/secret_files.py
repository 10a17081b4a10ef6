"""Secrets of one home folder: made once, readable by the owner only."""

from __future__ import annotations

import os
import secrets
from pathlib import Path


def ensure_secret(folder: Path, name: str) -> str:
    """The secret `folder/name`; made at the first call.

    Created with O_EXCL under its final permissions, so that no other user can read it at any moment and two
    programs that start together agree on one value.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = folder / name
    beside = folder / f".{name}.{os.getpid()}"
    if not path.exists():
        value = secrets.token_urlsafe(36)
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as file:
            file.write(value)
        try:
            os.link(beside, path)  # fails when another program was first, where a rename would overwrite its value
        except FileExistsError:
            pass
        finally:
            beside.unlink()
    return path.read_text().strip()
