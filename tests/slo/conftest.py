"""The test database lets Django empty the audit log between tests."""

from __future__ import annotations

from tests.audit.flushable import django_db_setup

__all__ = ["django_db_setup"]
