"""A target that does not answer once, when it had already done what is wanted."""

from __future__ import annotations

import pytest
from django.db import connection

from apps.targets.services.reconcile import endpoint_reconcile, reconcile_due
from tests.fakes.targets import make_site

pytestmark = [pytest.mark.django_db, pytest.mark.chaos]


def test_an_apply_that_timed_out_is_repeated_even_when_the_target_had_that_generation_already() -> None:
    """A step that changes no traffic applies the same generation again; found by freezing the agent at that moment."""
    site = make_site()
    assert endpoint_reconcile(site.endpoint.pk, holder="worker-1")
    site.world.faults.is_unreachable = True
    assert not endpoint_reconcile(site.endpoint.pk, holder="worker-1")
    assert "not to answer" in site.reload().apply_error
    site.world.faults.is_unreachable = False
    with connection.cursor() as cursor:  # the pause before the next attempt passes
        cursor.execute("UPDATE targets_endpoint SET reconcile_due_at = clock_timestamp() - interval '1 second'")
    reconcile_due(100, "worker-2")
    assert site.reload().apply_error == ""
