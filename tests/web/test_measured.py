"""Nothing is measured from nothing: without a request a page says so, and a share names its requests and their age."""

from __future__ import annotations

import re
import time
from html import unescape

from apps.rollouts.services.tick import rollout_tick
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
