"""The leading observer asks every pull source that is due, and none twice."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta

import pytest

from apps.telemetry.domain.window import WindowRequest
from apps.telemetry.drivers.base import Pulled
from apps.telemetry.models import PullSource
from apps.telemetry.selectors import windows
from tests.serving.processes import eventually
from tests.telemetry.test_pull import cells, site_with
from worker.pulls import Pulls


@pytest.mark.django_db(transaction=True)
def test_a_source_that_is_due_is_asked_in_a_thread_of_its_own_and_a_slow_one_only_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []
    may_answer = threading.Event()

    def slowly(since: float, until: float) -> Pulled:
        asked.append(until)
        assert may_answer.wait(60)
        return Pulled(since, until, cells(variant, 4, until), until)

    site, source = site_with(monkeypatch, slowly)
    variant = site.endpoint.desired["variants"][0]["key"]
    pulls = Pulls()
    pulls.refresh()
    PullSource.objects.update(due_at=datetime.now(UTC) - timedelta(seconds=1))
    eventually(lambda: asked)
    pulls.refresh()
    may_answer.set()
    eventually(lambda: windows([WindowRequest(site.endpoint.name, variant)])[0].total == 4, 60)
    pulls.stop(wait_seconds=30)
    assert len(asked) == 1
    source.refresh_from_db()
    assert source.asked_until == asked[0]
