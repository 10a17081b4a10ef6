"""Files that are either the old content or the new one, never half of both."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import IO, Any

from agent.errors import HomeLocked, StorageFailed


def write_json(path: Path, value: Any) -> None:
    """Replace `path` by the JSON of `value`; on disk when this returns. Raises StorageFailed: nothing changed."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as stream:
            json.dump(value, stream, sort_keys=True)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise StorageFailed(f"{path.name} could not be written: {error.strerror or error}.") from error


def _sync_folder(folder: Path) -> None:
    # Without this a power cut can bring the old name back although the new content was synced.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FileUnreadable(ValueError):
    """The file is there, and the system does not give it."""


def read_json(path: Path) -> Any:
    """The decoded file, or None where there is none. Raises FileUnreadable, and ValueError for what is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except RecursionError as error:
        raise ValueError("It is nested too deeply.") from error
    except OSError as error:
        raise FileUnreadable(error.strerror or str(error)) from error


def lock_home(home: Path) -> IO[str]:
    """Take the home for this process's life; keep the returned file open. Raises HomeLocked or StorageFailed.

    The lock is the kernel's: it ends with the process, kill -9 included, so no stale lock can keep a new agent out.
    """
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        stream = (home / "agent.lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise StorageFailed(f"The home {home} cannot be used: {error.strerror}.") from error
    try:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        stream.close()
        raise HomeLocked(f"Another agent is running with the home {home}; stop it or choose another home.") from error
    # Children inherit no descriptor (close_fds), so only this process holds the lock.
    os.set_inheritable(stream.fileno(), False)
    return stream
