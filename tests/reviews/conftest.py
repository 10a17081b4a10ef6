"""The test database lets Django empty the audit log between tests; see tests/audit/flushable.py."""

from tests.audit.flushable import django_db_setup

__all__ = ["django_db_setup"]
