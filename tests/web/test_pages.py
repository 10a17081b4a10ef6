"""Every page: who may see it, what stands on it, and what it costs the database."""

from __future__ import annotations

import time
from datetime import timedelta
from html import unescape
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.alerts.models import Incident
from apps.kernel.clock import now
from apps.rollouts.models import Rollout
from apps.rollouts.services.tick import rollout_tick
from apps.slo.models import Objective
from apps.slo.services.evaluate import objectives_evaluate
from tests.api.world import World
from tests.web.conftest import Browser, report

PAGES = {
    "/": 20,
    "/models/": 11,
    "/models/late-arrival/": 16,
    "/models/late-arrival/versions/1.1.0/": 20,  # five of them for its image and the builds of it
    "/endpoints/late-arrival/": 28,  # who asks and the endpoint once, and what each part is made from
    "/endpoints/late-arrival/?range=30d": 28,
    "/rollouts/": 10,
    "/rollouts/?show=back": 10,
    "/rollouts/new/": 10,
    "/rollouts/sequences/": 10,
    "/rollouts/sequences/new/": 10,
    "/settings/targets/": 10,
    "/settings/freezes/": 15,
    "/rollouts/{rollout}/": 27,  # six of them look at the rollout as it is now
}


@pytest.mark.parametrize(("path", "budget"), PAGES.items())
def test_an_engineer_sees_every_page_within_its_budget_of_queries(
    world: World, browser: Browser, path: str, budget: int
) -> None:
    rollout = world.start()
    report("v1-0-0", seconds=[0.02] * 50)
    alice = browser("alice")
    with CaptureQueriesContext(connection) as queries:
        answer = alice.get(path.format(rollout=rollout.pk))
    assert answer.status_code == 200
    assert "Pilothouse" in answer.content.decode()
    assert 'role="alert"' not in answer.content.decode(), "a fragment answered with a problem"
    assert len(queries) <= budget, f"{len(queries)} queries"


MONITORING = {
    "/alerts/": 20,
    "/alerts/?state=resolved": 20,
    "/alerts/{alert}/": 20,
    "/endpoints/late-arrival/objectives/": 20,
    "/endpoints/late-arrival/objectives/prometheus/": 20,
    "/endpoints/-/objectives/{objective}/": 20,
    "/endpoints/late-arrival/labels/": 20,
}


@pytest.mark.parametrize(("path", "budget"), MONITORING.items())
def test_an_operator_sees_alerts_and_objectives_within_their_budgets(
    world: World, browser: Browser, path: str, budget: int
) -> None:
    report("v1-0-0", seconds=[0.02] * 50, errors=40, slots=12)
    objectives_evaluate()
    alerts = list(Incident.objects.order_by("id"))
    assert alerts
    names = {"alert": alerts[0].pk, "objective": Objective.objects.order_by("id")[0].pk}
    olga = browser("olga")
    with CaptureQueriesContext(connection) as queries:
        answer = olga.get(path.format(**names))
    assert answer.status_code == 200
    assert 'role="alert"' not in answer.content.decode(), "a fragment answered with a problem"
    assert len(queries) <= budget, f"{len(queries)} queries"


@pytest.mark.parametrize("path", PAGES)
def test_whoever_is_not_signed_in_is_sent_to_sign_in_and_comes_back(world: World, browser: Browser, path: str) -> None:
    rollout = world.start()
    answer = browser("").get(path.format(rollout=rollout.pk))
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith("/sign-in?next=/")


def test_the_sign_in_page_says_why_it_is_there_and_where_it_leads(world: World, browser: Browser) -> None:
    stranger = browser("")
    sent = stranger.get(stranger.get("/endpoints/late-arrival/").headers["Location"]).content.decode()
    assert "back at" in sent
    assert "/endpoints/late-arrival/" in sent
    assert "ends after 30 minutes" in sent
    for plain in ("/sign-in", "/sign-in?next=https://elsewhere.example/", "/sign-in?next=/"):
        assert "back at" not in stranger.get(plain).content.decode()


@pytest.mark.parametrize("path", PAGES)
def test_whoever_has_no_role_is_told_which_one_it_needs(world: World, browser: Browser, path: str) -> None:
    rollout = world.start()
    answer = browser("mallory").get(path.format(rollout=rollout.pk))
    assert answer.status_code == 403
    assert "needs the role" in answer.content.decode()


@pytest.mark.parametrize(
    "path", ["/models/nope/", "/models/late-arrival/versions/9.9.9/", "/endpoints/nope/", "/rollouts/nope/"]
)
def test_what_does_not_exist_is_a_page_with_the_request_id(world: World, browser: Browser, path: str) -> None:
    answer = browser("alice").get(path, headers={"X-Request-ID": "request-12345"})
    assert answer.status_code == 404
    assert "request-12345" in answer.content.decode()


def test_the_fleet_shows_the_split_the_percentile_and_the_next_step(world: World, browser: Browser) -> None:
    report("v1-0-0", seconds=[0.02] * 99 + [0.4], errors=1)
    html = browser("alice").get("/").content.decode()
    assert "20 ms" in html
    assert "Roll out 1.1.0" in html
    assert "Roll out 2.0.0" not in html, "another schema is no drop-in"


def test_an_alert_stands_beside_the_state_and_not_under_a_budget_that_is_kept(world: World, browser: Browser) -> None:
    report("v1-0-0", seconds=[0.02] * 50, errors=40, slots=12)
    objectives_evaluate()
    alert = Incident.objects.order_by("id")[0]
    html = browser("olga").get("/_fleet/").content.decode()
    cells = {cell.split('"')[0]: cell for cell in html.split('<td data-th="')[1:]}
    assert f'/alerts/{alert.pk}/"' in cells["State"]
    assert alert.title in unescape(cells["State"])
    assert "/alerts/" not in cells["Least budget left"]


def test_an_empty_fleet_teaches_how_to_begin(db: None, browser: Browser) -> None:
    html = browser("alice").get("/").content.decode()
    assert "curl -X POST" in html
    assert "/api/v1/endpoints" in html


FRAGMENTS = (
    "/_fleet/",
    "/endpoints/late-arrival/health/",
    "/endpoints/late-arrival/variants/",
    "/rollouts/at/late-arrival/traffic/",
    "/rollouts/at/late-arrival/charts/1h/",
    "/rollouts/at/late-arrival/offers/",
    "/endpoints/late-arrival/data/",
    "/rollouts/at/late-arrival/events/",
    "/rollouts/of/late-arrival/live/",
    "/rollouts/_rows/",
    "/rollouts/{rollout}/head/",
    "/rollouts/{rollout}/log/",
)


@pytest.mark.parametrize("path", FRAGMENTS)
def test_a_fragment_that_did_not_change_is_not_sent_again(
    world: World, browser: Browser, path: str, time_machine_at: Any
) -> None:
    rollout = world.start()
    alice = browser("alice")
    url = path.format(rollout=rollout.pk)
    first = alice.get(url)
    assert first.status_code == 200
    assert "<html" not in first.content.decode(), "a fragment is no page"
    again = alice.get(url, headers={"If-None-Match": first.headers["ETag"]})
    assert again.status_code == 304


@pytest.fixture
def time_machine_at() -> Any:
    """Ages are part of a fragment: the clock stands still between the two looks."""
    from apps.kernel.clock import now, set_clock

    at = now()
    with set_clock(lambda: at):
        yield at


def test_a_fragment_of_a_stranger_is_not_shown_to_nobody(world: World, browser: Browser) -> None:
    answer = browser("").get("/_fleet/", headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/"})
    assert answer.headers["HX-Redirect"].startswith("/sign-in")


def test_no_page_needs_an_inline_script(world: World, browser: Browser) -> None:
    rollout = world.start()
    alice = browser("alice")
    for path in PAGES:
        answer = alice.get(path.format(rollout=rollout.pk))
        html = answer.content.decode()
        policy = answer.headers["Content-Security-Policy"]
        assert "script-src 'self';" in policy
        nonce = html.split('id="plotly.js-style-global" nonce="')[1].split('"')[0]
        assert f"'nonce-{nonce}'" in policy
        assert "onclick=" not in html
        assert "<script>" not in html


@pytest.mark.parametrize("path", ["/", "/endpoints/late-arrival/", "/rollouts/", "/rollouts/{rollout}/"])
def test_a_rollout_that_the_engine_fails_at_says_so_and_since_when(world: World, browser: Browser, path: str) -> None:
    rollout = world.start()
    alice = browser("alice")
    assert "engine error" not in alice.get(path.format(rollout=rollout.pk)).content.decode()
    Rollout.objects.update(look_error="KeyError: 'weight'", look_failed_at=now() - timedelta(minutes=7))
    html = alice.get(path.format(rollout=rollout.pk)).content.decode()
    assert "◇</i>engine error" in html
    assert "KeyError: &#x27;weight&#x27;" in html
    if path != "/rollouts/":
        assert "7 min ago" in html


def test_a_version_that_callers_could_not_use_is_refused_with_a_link_to_the_ways_on(
    world: World, browser: Browser
) -> None:
    alice = browser("alice")
    html = alice.get("/rollouts/of/late-arrival/2.0.0/offers/").content.decode()
    assert "not here" in html
    assert "not now" not in html
    link = html.split('href="')[1].split('"')[0].replace("&amp;", "&")
    assert "step=where" in link
    assert "2.0.0 cannot stand in for 1.0.0" in html
    assert alice.get(link).status_code in {200, 422}
    world.start()
    assert "not now" in alice.get("/rollouts/of/late-arrival/1.1.0/offers/").content.decode()


def _with_traffic(world: World) -> Rollout:
    """A rollout whose candidate is to get its first share."""
    rollout = world.start()
    for _ in range(20):
        rollout_tick(rollout.pk, "test")
        rollout.refresh_from_db()
        if rollout.weight_bp:
            return rollout
        time.sleep(0.1)  # the fake target starts a process in no time, but not in none
    raise AssertionError(f"it is {rollout.phase}: {rollout.reason}")


def test_two_percentiles_of_a_handful_of_requests_are_not_compared(world: World, browser: Browser) -> None:
    rollout = _with_traffic(world)
    alice, page = browser("alice"), f"/rollouts/{rollout.pk}/head/"
    rollout.endpoint.refresh_from_db()
    period = rollout.endpoint.desired["route"]["period"]
    report("v1-0-0", seconds=[0.02] * 30, period=period, slots=1)
    report("v1-1-0", seconds=[0.03] * 19, period=period, slots=1)
    html = alice.get(page).content.decode()
    assert "Measured 38.8 % of 49 requests." in html
    assert "slower than" not in html
    report("v1-1-0", seconds=[0.03], period=period, slots=1, seq=2)
    assert "slower than 1.0.0" in alice.get(page).content.decode()


def test_what_goes_back_is_not_said_to_be_rolled_out(world: World, browser: Browser) -> None:
    rollout, alice = _with_traffic(world), browser("alice")
    path = "/rollouts/at/late-arrival/traffic/"
    assert "is being rolled out" in alice.get(path).content.decode()
    Rollout.objects.filter(pk=rollout.pk).update(phase="rolling_back", revision=rollout.revision + 1)
    html = alice.get(path).content.decode()
    assert "1.1.0 goes back" in html
    assert "is being rolled out" not in html
