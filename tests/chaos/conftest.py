"""The test database lets Django empty the audit log between tests (tests/audit/flushable.py); one running product."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.audit.flushable import django_db_setup
from tests.chaos.product import is_whole
from tests.stack import Stack, eventually, running_stack

__all__ = ["django_db_setup"]

_measured: list[str] = []


@pytest.fixture
def measured() -> Callable[[str], None]:
    """Takes a sentence with a number, shown in the summary of the run."""
    return _measured.append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for sentence in _measured:
        terminalreporter.write_line(f"measured: {sentence}")


@pytest.fixture(scope="session")
def _product() -> Iterator[Stack]:
    with running_stack(rate=40) as running:
        running.make_key()
        yield running


@pytest.fixture
def stack(_product: Stack) -> Stack:
    """The whole product with its demo and traffic; a test may stop it, the next one finds it running."""
    if _product.process is None:
        _product.begin()
    # The link is there before the model has loaded; what is struck here must have been whole.
    eventually(lambda: is_whole(_product), seconds=120, what="a whole product")
    return _product
