"""The test database lets Django empty the audit log between tests; see tests/audit/flushable.py."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.conf import settings

from tests.audit.flushable import django_db_setup

__all__ = ["django_db_setup"]


@pytest.fixture(scope="session", autouse=True)
def static_root() -> None:
    """WhiteNoise warns when the folder is missing, and a warning is an error here."""
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture(autouse=True)
def one_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code of an authenticator app stays the same for a whole test; else every half minute has another one."""
    began = time.time()
    monkeypatch.setattr("allauth.mfa.totp.internal.auth.time", SimpleNamespace(time=lambda: began))
