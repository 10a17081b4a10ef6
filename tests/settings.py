"""Settings of the test session: the product's own, on real servers of its own."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path

from tests.conftest_services import ensure_services

ensure_services()
_home = Path(tempfile.mkdtemp(prefix="pilothouse-test-home-"))
(_home / "static").mkdir()
atexit.register(shutil.rmtree, _home, ignore_errors=True)
os.environ.setdefault("PILOTHOUSE_HOME", str(_home))
os.environ.setdefault("PILOTHOUSE_SECRET_KEY", "tests-only-" + "x" * 50)
os.environ.setdefault("PILOTHOUSE_INGEST_TOKEN", "tests-only-ingest-token")
os.environ.setdefault("PILOTHOUSE_ARTIFACT_ROOTS", "/")  # tests keep artifacts and tokens in folders of their own
os.environ.setdefault("PILOTHOUSE_TOKEN_ROOTS", "/")
os.environ.setdefault("PILOTHOUSE_ALLOWED_HOSTS", "127.0.0.1,localhost,testserver")

from controlplane.settings import *  # noqa: E402, F403
from controlplane.settings import DATABASES  # noqa: E402
from tests.migrated import migrated  # noqa: E402

DATABASES["default"]["TEST"] = {"TEMPLATE": migrated()}

PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
