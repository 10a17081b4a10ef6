"""Nothing is measured from nothing: without a request a page says so, and a share names its requests and their age."""

from __future__ import annotations

import re
import time
from html import unescape
from typing import Any

from apps.rollouts.selectors import rollout_list
from apps.rollouts.services.tick import rollout_tick
from apps.rollouts.web.figures import charts_of
from tests.api.world import World
from tests.web.conftest import Browser, report

ENDPOINT = "/rollouts/at/late-arrival/traffic/"


def text(html: bytes) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html.decode())).split())


def test_without_a_request_no_page_says_that_a_share_was_measured(world: World, browser: Browser) -> None:
    alice = browser("alice")
    rollout = world.start()
    for _ in range(20):
        rollout_tick(rollout.pk, "test")
    for path in ("/_fleet/", ENDPOINT, f"/rollouts/{rollout.pk}/head/"):
        assert not re.search(r"[Mm]easured:? [0-9]", text(alice.get(path).content)), path
    fleet = text(alice.get("/_fleet/").content)
    assert "1.0.0 95 % 1.1.0 5 % nothing measured yet" in fleet
    assert "none in 5 min" in fleet
    cells = re.findall(
        r'data-th="(Measured|p95, 5 min|Errors, 5 min)"[^>]*>(.*?)</td>', alice.get(ENDPOINT).content.decode()
    )
    assert {name: text(cell.encode()) for name, cell in cells} == {
        "Measured": "nothing yet", "p95, 5 min": "no data", "Errors, 5 min": "no data"
    }  # fmt: skip
    assert "nothing measured since the weights changed" in text(alice.get(f"/rollouts/{rollout.pk}/head/").content)


def test_a_share_names_its_requests(world: World, browser: Browser) -> None:
    report("v1-0-0", seconds=[0.02] * 50)
    fleet = text(browser("alice").get("/_fleet/").content)
    assert "1.0.0 100 % (measured 100 %) of 150 requests" in fleet
    assert "none in 5 min" not in fleet


def test_a_share_that_is_old_says_that_nobody_called_since(world: World, browser: Browser) -> None:
    report("v1-0-0", seconds=[0.02] * 50, at=time.time() - 1800)
    fleet = text(browser("alice").get("/_fleet/").content)
    assert "1.0.0 100 % (measured 100 %) of 150 requests, none in 5 min" in fleet
    assert "No request has been reported in the last 5 minutes." in text(browser("bob").get(ENDPOINT).content)


def test_requests_of_before_the_weights_changed_are_no_share_of_now(world: World, browser: Browser) -> None:
    report("v1-0-0", seconds=[0.02] * 50)
    rollout = world.start()
    for _ in range(20):
        rollout_tick(rollout.pk, "test")
    fleet = text(browser("alice").get("/_fleet/").content)
    assert "1.0.0 95 % 1.1.0 5 % no request since the weights changed" in fleet


def test_requests_that_no_process_answered_are_errors_that_are_said_and_no_latency(
    world: World, browser: Browser
) -> None:
    report("v1-0-0", seconds=[0.02] * 50)
    report("v1-0-0", seconds=[5.0] * 350, route="unserved")
    fleet = text(browser("alice").get("/_fleet/").content)
    assert "(measured 100 %) of 150 requests" in fleet  # the split is what serving processes took
    assert "87.5 % of 1,200 1,050 had no answer" in fleet
    page = text(browser("bob").get(ENDPOINT).content)
    assert "87.5 % of 1,200 1,050 had no answer" in page
    assert "1,050 requests of the last 5 minutes had no answer" in page
    assert "20 ms" in page
    assert "5 s" not in page
    assert "Newest report" in page


def test_an_outage_in_which_nobody_reports_is_a_hundred_per_cent_of_errors(world: World, browser: Browser) -> None:
    report("v1-0-0", seconds=[0.0] * 200, route="unserved")
    fleet = text(browser("alice").get("/_fleet/").content)
    assert "100 % of 600 600 had no answer" in fleet
    page = text(browser("bob").get(ENDPOINT).content)
    assert "100 % of 600 600 had no answer" in page
    assert "no data" in page  # p95
    assert "No request has been reported in the last 5 minutes." not in page
    assert "No serving process has reported a request in the last 5 minutes." in page


def test_charts_of_the_endpoint_count_them_as_errors_and_those_of_a_rollout_show_what_its_gates_read(
    world: World,
) -> None:
    world.start()
    report("v1-0-0", seconds=[0.02] * 50)
    report("v1-0-0", seconds=[5.0] * 350, route="unserved")
    rollouts = list(rollout_list())
    until = int(time.time()) // 60 * 60 + 60
    span = {"since": until - 600, "until": until, "step": 60}

    def seen(charts: dict[str, Any]) -> dict[str, tuple[int, int]]:
        drawn = {kind: [point.window for point in chart["points"]["v1-0-0"]] for kind, chart in charts.items()}
        return {kind: (sum(w.judged for w in ws), sum(w.bad for w in ws)) for kind, ws in drawn.items()}

    own = seen(charts_of(world.endpoint, rollouts, **span))
    assert own == {"latency": (150, 0), "errors": (1200, 1050), "split": (150, 0), "rate": (1200, 1050)}
    assert set(seen(charts_of(world.endpoint, rollouts, **span, first=["v1-0-0"])).values()) == {(150, 0)}
