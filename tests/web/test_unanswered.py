"""A target that fell silent: since when is said truly, and what nobody knows is not shown as if it were well."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.test import Client

from apps.kernel.clock import now, set_clock
from apps.kernel.live import redis_client
from apps.targets.domain.driver import Observed, ObservedRoute, ObservedVariant, VariantState
from apps.targets.models import Endpoint
from apps.targets.selectors import plan_of
from apps.targets.services.freshness import FRESH_SECONDS, target_answered, targets_answered_at, targets_confirmed_at
from apps.targets.services.observe import endpoint_observe
from apps.targets.services.reconcile import endpoint_reconcile
from apps.targets.web.health import health_of
from tests.api.world import World
from tests.fakes.clock import FakeClock
from tests.web.conftest import Browser

HEALTH, VARIANTS = "/endpoints/late-arrival/health/", "/endpoints/late-arrival/variants/"


@pytest.fixture
def served(world: World) -> World:
    """Applied and seen, an hour ago."""
    assert endpoint_reconcile(world.endpoint.pk, holder="alice")
    assert endpoint_observe(world.endpoint.pk) is not None
    Endpoint.objects.update(observed_at=now() - timedelta(hours=1))
    return world


@pytest.fixture
def olga(browser: Browser) -> Client:
    return browser("olga")


def said(client: Client, path: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", client.get(path).content.decode())).split())


def test_confirmed_stays_true_long_after_the_last_answer(served: World, olga: Client) -> None:
    clock = FakeClock(now())
    with set_clock(clock):
        target_answered(served.endpoint.target_id)
        kept = redis_client().ttl(f"observed:{served.endpoint.target_id}")
        assert "Confirmed 0 s ago ." in said(olga, HEALTH)
        clock.forward(180)
        assert "Confirmed 3 min ago ." in said(olga, HEALTH), "not the hour since it last changed"
        assert "3 min ago" in said(olga, "/settings/targets/")
    assert isinstance(kept, int)
    assert kept > 7 * 86400


def test_without_a_note_nobody_claims_that_it_was_confirmed(served: World, olga: Client) -> None:
    redis_client().delete(f"observed:{served.endpoint.target_id}")
    told = said(olga, HEALTH)
    assert "Confirmed" not in told
    assert "As seen 60 min ago ." in told or "As seen 1 h ago ." in told


def test_what_is_kept_for_pages_is_no_answer_of_now() -> None:
    clock = FakeClock(now())
    with set_clock(clock):
        target_answered("t_1")
        clock.forward(FRESH_SECONDS)
        assert targets_answered_at(["t_1"]).keys() == {"t_1"}
        clock.forward(1)
        assert targets_answered_at(["t_1"]) == {}
        assert targets_confirmed_at(["t_1"]).keys() == {"t_1"}
        clock.forward(-3600)
        assert targets_answered_at(["t_1"]) == {}, "a clock set back keeps nobody from asking"


def test_of_a_target_that_does_not_answer_no_variant_is_shown_as_ready(served: World, olga: Client) -> None:
    assert "● ready" in said(olga, VARIANTS)
    Endpoint.objects.update(observe_error="The node agent did not answer in time.")
    told = said(olga, VARIANTS)
    assert "●" not in told
    assert "◇ was ready" in told
    assert "The target does not answer. Everything below is as it was last seen" in told


@pytest.mark.parametrize("reason", ["Exited with code 1; next start in 4 s.", "Exited with code 1; next start in 4 s"])
def test_a_reason_that_is_a_sentence_gets_no_second_full_stop(served: World, reason: str) -> None:
    plan = plan_of(Endpoint.objects.get(pk=served.endpoint.pk))
    assert plan is not None
    (key,) = plan.route.weights_bp
    down = ObservedVariant(key, state=VariantState.BACKOFF, ready_replicas=0, desired_replicas=1, reason=reason)
    route = ObservedRoute(period=1, weights_bp={key: 10_000})
    observed = Observed("late-arrival", 1, 1, 1, variants=(down,), route=route)
    found = health_of(served.endpoint, plan, observed)
    assert found.sentence == (
        "1.0.0 is not ready: Exited with code 1; next start in 4 s. Callers may see errors; the target restarts it by "
        "itself."
    )
