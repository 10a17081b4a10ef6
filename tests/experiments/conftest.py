"""A laboratory for every test that asks; the test database lets Django empty the audit log between tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.audit.flushable import django_db_setup
from tests.experiments.lab import Lab, opened

__all__ = ["django_db_setup"]


@pytest.fixture
def lab(db: None, tmp_path: Path) -> Iterator[Lab]:
    with opened(tmp_path) as found:
        yield found
