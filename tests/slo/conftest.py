"""The test database lets Django empty the audit log between tests; `tower` is an endpoint that is watched."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.audit.flushable import django_db_setup
from tests.slo.watchtower import Tower, standing

__all__ = ["django_db_setup"]


@pytest.fixture
def tower() -> Iterator[Tower]:
    with standing() as found:
        yield found
