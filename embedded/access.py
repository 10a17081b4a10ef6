"""Root may not run PostgreSQL: it runs as the system user `pgserver`, which must be able to reach its files."""

from __future__ import annotations

import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from embedded.console import Say
from embedded.errors import ServiceError

SYSTEM_USER = "pgserver"


@dataclass(frozen=True)
class Account:
    """The user PostgreSQL runs as; `name` is None for whoever runs this program."""

    name: str | None
    uid: int
    gid: int

    @property
    def popen(self) -> dict[str, object]:
        """Keyword arguments for subprocess that drop to this user."""
        if self.name is None:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def database_account(say: Say) -> Account:
    """Ourselves, or `pgserver` (created when missing) when we are root.

    Raises ServiceError when the user cannot be created.
    """
    if os.geteuid() != 0:
        return Account(None, os.geteuid(), os.getegid())
    try:
        entry = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        entry = _create_user(say)
    return Account(SYSTEM_USER, entry.pw_uid, entry.pw_gid)


def _create_user(say: Say) -> pwd.struct_passwd:
    useradd = shutil.which("useradd", path=os.pathsep.join([os.defpath, "/usr/sbin", "/sbin"]))
    if useradd is None:
        raise ServiceError(
            f"PostgreSQL refuses to run as root and there is no useradd to create the user {SYSTEM_USER}; "
            "run as another user, or set DATABASE_URL to a server of your own."
        )
    say(f"Running as root: creating the system user {SYSTEM_USER}, because PostgreSQL refuses to run as root")
    done = subprocess.run(
        [useradd, "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", SYSTEM_USER],
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        return pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        raise ServiceError(f"Could not create the system user {SYSTEM_USER}: {done.stderr.strip()}") from None


def make_reachable(path: Path, account: Account, say: Say) -> None:
    """Lets the account enter every folder above `path`.

    Adds search permission only (no listing), says so, and never touches a person's home folder: that is for the
    person to decide. Raises ServiceError naming the folder and the command.
    """
    if account.name is None:
        return
    people = {entry.pw_dir for entry in pwd.getpwall()}
    for folder in reversed(path.resolve().parents):
        mode = folder.stat().st_mode
        if mode & stat.S_IXOTH:
            continue
        if str(folder) in people or folder.stat().st_uid != os.geteuid():
            raise ServiceError(
                f"PostgreSQL runs as {account.name} and cannot enter {folder}; run 'chmod o+x {folder}', "
                "move this folder elsewhere, or set DATABASE_URL to a server of your own."
            )
        say(f"Letting {account.name} enter {folder} (chmod o+x), to reach {path.name}")
        folder.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)
