"""A PostgreSQL and a Valkey of the measurement's own, set as `make up` sets them: durable, every commit on the disk.

The test session's servers would flatter: they run with fsync off.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import harness  # noqa: F401  puts the checkout on the module path
import structlog

from embedded.console import quiet
from embedded.services import Services


def use_django() -> None:
    """Set Django up on what the environment names."""
    import django

    os.environ["DJANGO_SETTINGS_MODULE"] = "controlplane.settings"
    django.setup()
    structlog.configure(processors=[_drop])  # log lines would be measured too


def _drop(*_: Any) -> Any:
    raise structlog.DropEvent


@contextmanager
def own_database() -> Iterator[Services]:
    """Servers in a temporary home, the product's tables in them, Django set up; all of it is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="pilothouse-bench-") as folder:
        home = Path(folder)
        home.chmod(0o711)  # run as root, PostgreSQL is another user
        services = Services(home)
        services.start(quiet)
        try:
            os.environ.update(
                services.urls(),
                PILOTHOUSE_HOME=folder,
                PILOTHOUSE_SECRET_KEY="only-for-a-measurement-" + "x" * 40,
                PILOTHOUSE_INGEST_TOKEN="only-for-a-measurement",
            )
            use_django()
            from django.core.management import call_command
            from django.db import connections

            call_command("migrate", verbosity=0)
            yield services
            connections.close_all()
        finally:
            services.stop(quiet)
