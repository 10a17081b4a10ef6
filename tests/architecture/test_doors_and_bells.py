"""Every door says what it needs, every doorbell rings somewhere."""

from __future__ import annotations

import ast

import pytest
from django.urls import get_resolver

from apps.accounts.web_access import undeclared_doors
from tests.architecture.sources import files_with, relative, tree_of
from worker.app import app
from worker.schedule import BEAT_SCHEDULE

# Asked by machines that cannot sign in, and by browsers for the icon: see tests/accounts/test_every_door.py.
OPEN_ON_PURPOSE = {"/livez", "/readyz", "/metrics", "/favicon.ico"}


def test_every_door_declares_its_action() -> None:
    found = {door for door in undeclared_doors(get_resolver("controlplane.urls").url_patterns) if "static" not in door}
    assert found - OPEN_ON_PURPOSE == set()


def rung() -> list[tuple[str, str]]:
    """(file, name) of every ``enqueue_task("name", …)``; a name that is no literal is shown as ``?``."""
    found = []
    for path in files_with("enqueue_task", "apps", "controlplane", "worker"):
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "enqueue_task":
                name = node.args[0] if node.args else None
                is_literal = isinstance(name, ast.Constant) and isinstance(name.value, str)
                found.append((relative(path), str(name.value) if is_literal else "?"))  # type: ignore[union-attr]
    return found


@pytest.fixture(scope="module")
def registered() -> set[str]:
    app.autodiscover_tasks(force=True)
    return set(app.tasks)


def test_every_enqueued_and_scheduled_task_is_registered(registered: set[str]) -> None:
    names = [*rung(), *(("worker/schedule.py", str(entry["task"])) for entry in BEAT_SCHEDULE.values())]
    assert ("apps/targets/services/desire.py", "targets.reconcile") in names
    assert [(place, name) for place, name in names if name not in registered] == []


def test_no_request_and_no_transaction_rings_by_itself() -> None:
    """The outbox rings; a ``delay`` elsewhere would ring for a transaction that may still fail."""
    wrong = [
        f"{relative(path)}:{node.lineno}"
        for name in ("delay", "apply_async", "send_task")
        for path in files_with(name, "apps", "controlplane")
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.Attribute) and node.attr == name
    ]
    assert wrong == []
