"""Writing down what targets do: only what is new, and the newer of two."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from structlog.testing import capture_logs

from apps.kernel.models import OutboxEntry
from apps.targets.domain.driver import Observed
from apps.targets.domain.plan import Route
from apps.targets.selectors import observed_of
from apps.targets.services.observe import endpoint_observe, observed_store
from apps.targets.services.reconcile import endpoint_reconcile
from tests.fakes.targets import FakeSite, make_site

pytestmark = pytest.mark.django_db


def applied_site() -> tuple[FakeSite, Observed]:
    site = make_site()
    assert endpoint_reconcile(site.endpoint.pk, holder="alice")
    observed = endpoint_observe(site.endpoint.pk)
    assert observed is not None
    site.reload()
    return site, observed


def test_what_was_seen_can_be_read_back() -> None:
    site, observed = applied_site()
    assert observed_of(site.endpoint) == observed
    assert site.endpoint.observed_at == observed.observed_at


def test_an_unchanged_observation_costs_one_read_and_no_write(django_assert_num_queries: object) -> None:
    site, observed = applied_site()
    before = site.endpoint.revision
    later = replace(
        observed,
        observed_at=site.clock() + timedelta(seconds=10),
        variants=tuple(replace(each, memory_bytes=1 << 28, cpu_seconds=99.0) for each in observed.variants),
    )
    with django_assert_num_queries(1):  # type: ignore[operator]
        assert not observed_store(endpoint_id=site.endpoint.pk, observed=later)
    assert site.reload().revision == before


def test_news_raise_the_revision_and_are_told_to_open_pages() -> None:
    site, observed = applied_site()
    OutboxEntry.objects.all().delete()
    restarted = tuple(replace(each, restarts=1) for each in observed.variants)
    assert observed_store(endpoint_id=site.endpoint.pk, observed=replace(observed, variants=restarted))
    frames = {entry.name: entry.payload for entry in OutboxEntry.objects.all()}
    revision = site.endpoint.revision + 1
    assert frames == {
        f"endpoint:{site.endpoint.pk}": {"id": site.endpoint.pk, "revision": revision},
        "fleet": {"id": site.endpoint.pk, "revision": revision},
    }


def test_an_unreachable_target_is_written_once_and_what_was_last_seen_stays() -> None:
    site, observed = applied_site()
    site.world.faults.is_unreachable = True
    assert endpoint_observe(site.endpoint.pk) is None
    first = site.reload()
    assert "told not to answer" in first.observe_error
    assert observed_of(first) == observed
    revision = first.revision
    assert endpoint_observe(site.endpoint.pk) is None
    assert site.reload().revision == revision
    site.world.faults.is_unreachable = False
    assert endpoint_observe(site.endpoint.pk) == observed
    assert site.reload().observe_error == ""


def test_an_answer_that_lost_a_race_does_not_overwrite_a_newer_one() -> None:
    site, observed = applied_site()
    newer = replace(observed, route_error="newer", observed_at=site.clock() + timedelta(seconds=2))
    older = replace(observed, route_error="older", observed_at=site.clock() + timedelta(seconds=1))
    assert observed_store(endpoint_id=site.endpoint.pk, observed=newer)
    assert not observed_store(endpoint_id=site.endpoint.pk, observed=older)
    assert observed_of(site.reload()) == newer


def test_a_target_whose_clock_was_set_back_is_believed_again() -> None:
    site, observed = applied_site()
    long_ago = replace(observed, route_error="clock set back", observed_at=site.clock() - timedelta(hours=1))
    assert observed_store(endpoint_id=site.endpoint.pk, observed=long_ago)


def test_a_target_that_lost_its_memory_makes_the_endpoint_due() -> None:
    site, _ = applied_site()
    site.world.forget(site.endpoint.name)
    assert endpoint_observe(site.endpoint.pk) is None
    assert site.reload().applied_generation == 0
    assert endpoint_reconcile(site.endpoint.pk, holder="bob")
    assert endpoint_observe(site.endpoint.pk) is not None


def test_a_gateway_changed_by_hand_makes_the_endpoint_due() -> None:
    site, observed = applied_site()
    assert observed.route is not None
    site.world.reroute(site.endpoint.name, Route(observed.route.period, {"by-hand": 10_000}))
    endpoint_observe(site.endpoint.pk)
    assert site.reload().applied_generation == 0


def test_a_variant_that_is_still_starting_is_no_divergence() -> None:
    site = make_site()
    site.world.ready_seconds = 60
    assert endpoint_reconcile(site.endpoint.pk, holder="alice")
    endpoint_observe(site.endpoint.pk)
    assert site.reload().applied_generation == 1


def test_storing_news_takes_few_queries() -> None:
    site, observed = applied_site()
    with CaptureQueriesContext(connection) as queries:
        observed_store(endpoint_id=site.endpoint.pk, observed=replace(observed, route_error="news"))
    statements = [query["sql"] for query in queries if "SAVEPOINT" not in query["sql"]]
    assert len(statements) <= 8, statements


def test_a_target_that_waits_for_its_next_piece_is_no_divergence_in_the_log() -> None:
    site, observed = applied_site()
    with capture_logs() as said:
        assert observed_store(
            endpoint_id=site.endpoint.pk, observed=replace(observed, awaits_apply="the route can move")
        )
    assert [(one["event"], one["log_level"]) for one in said] == [("endpoint_awaits_apply", "info")]
    assert site.reload().applied_generation == 0, "due for the reconciler"
    site, observed = applied_site_again(site)
    older = replace(observed, generation=observed.generation + 1, awaits_apply="the route can move")
    with capture_logs() as said:
        observed_store(endpoint_id=site.endpoint.pk, observed=older)
    assert [(one["event"], one["log_level"]) for one in said] == [("endpoint_diverged", "warning")]


def applied_site_again(site: FakeSite) -> tuple[FakeSite, Observed]:
    assert endpoint_reconcile(site.endpoint.pk, holder="alice")
    observed = endpoint_observe(site.endpoint.pk)
    assert observed is not None
    site.reload()
    return site, observed
