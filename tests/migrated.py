"""A migrated database that the test session's databases are copied from: made once for these migrations, then copied.

Migrating costs ten seconds of processor time, a copy a tenth of one, and a run of all tests needs a dozen.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

from embedded.services import exclusive
from tests.conftest_services import ensure_services, shared_home

ROOT = Path(__file__).resolve().parent.parent
UNUSED_SECONDS = 86_400
PREFIX = "pilothouse_migrated_"


def migrated() -> str:
    """The name of a database with every migration applied and nobody connected to it."""
    urls, name = ensure_services(), PREFIX + _digest()
    parts = urlsplit(urls.database)
    used = shared_home() / "migrated"
    with exclusive(shared_home() / "migrated.lock"), psycopg.connect(
        parts._replace(path="/postgres").geturl(), autocommit=True
    ) as admin:  # fmt: skip
        used.mkdir(exist_ok=True)
        known = {str(row[0]) for row in admin.execute("SELECT datname FROM pg_database")}
        if name not in known:
            half = f"{name}_half"
            admin.execute(f'DROP DATABASE IF EXISTS "{half}" WITH (FORCE)')
            admin.execute(f'CREATE DATABASE "{half}"')
            _migrate(parts._replace(path=f"/{half}").geturl(), urls.redis)
            admin.execute(f'ALTER DATABASE "{half}" RENAME TO "{name}"')
        (used / name).touch()
        for stale in (one for one in used.iterdir() if time.time() - one.stat().st_mtime > UNUSED_SECONDS):
            admin.execute(f'DROP DATABASE IF EXISTS "{stale.name}" WITH (FORCE)')
            stale.unlink()
    return name


def _digest() -> str:
    """Of everything that decides what migrating makes: the migrations, the models (their permissions), Django."""
    found = hashlib.sha256(version("django").encode() + version("django-allauth").encode())
    for path in sorted((*(ROOT / "apps").rglob("migrations/*.py"), *(ROOT / "apps").rglob("models*/*.py"))):
        found.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    for path in sorted((ROOT / "apps").rglob("models*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def _migrate(database: str, redis: str) -> None:
    env = {
        **os.environ,
        "DATABASE_URL": database,
        "REDIS_URL": redis,
        "PILOTHOUSE_HOME": str(shared_home() / "migrating"),
        "PILOTHOUSE_SECRET_KEY": "tests-only-" + "x" * 50,
        "PILOTHOUSE_INGEST_TOKEN": "tests-only-ingest-token",
        "DJANGO_SETTINGS_MODULE": "controlplane.settings",
    }
    command = [sys.executable, "manage.py", "migrate", "-v", "0"]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    if done.returncode:
        raise RuntimeError(f"the migrations could not be applied:\n{done.stderr[-3000:]}")
