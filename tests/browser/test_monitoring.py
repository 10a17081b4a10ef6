"""The on-call engineer's pages in a real Chromium: seen by axe, walked by keyboard, fresh without a reload.

The web process is the product's own (limits, ingest door, sockets), in a thread of the test; what the pages show was
put in through the services. Outbox messages are handed on by the test where a worker would.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from django.conf import settings
from django.db import transaction
from django.test import Client
from playwright.sync_api import Page, expect, sync_playwright

from apps.accounts.domain.roles import Role
from apps.alerts.models import Incident
from apps.alerts.services.incidents import Observation, State, incidents_observe
from apps.kernel.clock import now
from apps.kernel.live import live_publish
from apps.kernel.services.outbox import outbox_deliver
from apps.kernel.stats.histogram import ExponentialHistogram
from apps.rollouts.models import Rollout
from apps.slo.models import Objective
from apps.slo.services.evaluate import objectives_evaluate
from apps.telemetry.models import Label, RollUp, RollUpMark
from tests.api.world import World, make_world
from tests.audit.flushable import django_db_setup
from tests.browser.conftest import is_fault
from tests.browser.steps import FLAGS, PATIENCE_MS, chromium_path
from tests.browser.test_experiment_pages import PICTURES, looked_at
from tests.cast import make_user
from tests.telemetry.test_slots import wire
from tests.web.conftest import report

__all__ = ["django_db_setup"]
pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.timeout(900)]
ENDPOINT = "/endpoints/late-arrival/"
PROBE = "are-you-there"
"""Nothing here is about how fast a page is; the machine may be busy with other things."""


@pytest.fixture
def world(transactional_db: None, tmp_path: Path) -> World:
    """An endpoint with requests, objectives that burn, a page and a ticket."""
    found = make_world(tmp_path)
    report("v1-0-0", seconds=[0.02] * 300 + [0.9] * 20, errors=12, slots=12)
    objectives_evaluate()
    page(found.endpoint.pk)
    return found


def page(endpoint_id: str, key: str = "slo:1", title: str = "late-arrival: availability burns its budget") -> Incident:
    seen = Observation(
        key=key, source="slo", team_id=None, environment="", subject_type="endpoint", subject_id=endpoint_id,
        subject_name="late-arrival", severity="page", title=title,
        summary="The budget is gone in 3 h 10 min. 2.1 % of 8,412 requests failed in 1 h.",
        facts={"seconds_to_exhaustion": 11_400, "factor": 20.0},
        states=(State("page fast", "page", True, "1 h at 20.0x, 5 min at 22.1x; limit 14.4x"),),
        runbook_url="https://runbooks.example.com/availability",
    )  # fmt: skip
    with transaction.atomic():
        incidents_observe([seen])
    told()
    return Incident.objects.get(key=key)


def told() -> None:
    """What the relay of the worker does with frames."""
    outbox_deliver({"live": live_publish, "task": lambda name, payload: None})


@pytest.fixture
def seen(world: World, web: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A page of somebody on call who may also set objectives; what it left in the console fails the test."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    client = Client()
    client.force_login(make_user("alice", frozenset({Role.ENGINEER, Role.OPERATOR, Role.ADMIN})))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        context = browser.new_context(viewport={"width": 1440, "height": 900}, base_url=web)
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": web}])
        found = context.new_page()
        found.set_default_timeout(PATIENCE_MS)
        said: list[str] = []
        found.on("console", lambda one: said.append(one.text) if is_fault(one) else None)
        found.on("pageerror", lambda error: said.append(str(error)))
        yield found
        found.goto("about:blank")
        browser.close()
    assert said == []


def listened(seen: Page, path: str, channel: str) -> list[str]:
    """Open ``path``; what its socket hears from now on. Its subscription has arrived: a frame of ``channel`` has."""
    frames: list[str] = []
    seen.on("websocket", lambda socket: socket.on("framereceived", lambda text: frames.append(str(text))))
    seen.goto(path)
    expect(seen.locator("[data-live-indicator]")).to_contain_text("Live")
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not any(channel in frame for frame in frames):
        assert time.monotonic() < deadline, f"no frame of {channel} arrives"
        live_publish(channel, {"id": PROBE, "revision": time.time_ns() // 1_000_000})
        seen.wait_for_timeout(200)
    seen.evaluate("window.isTheSamePage = true")
    return frames


def heard(seen: Page, frames: list[str], channel: str) -> None:
    """A frame of ``channel`` that somebody else sent arrived, or does."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not any(channel in frame and PROBE not in frame for frame in frames):
        assert time.monotonic() < deadline, f"{channel} was not told; frames: {frames}"
        seen.wait_for_timeout(100)


PAGES = {
    "oncall": ENDPOINT,
    "alerts": "/alerts/",
    "alert": "/alerts/{alert}/",
    "objectives": f"{ENDPOINT}objectives/",
    "objective": "/endpoints/-/objectives/{objective}/",
    "rules": f"{ENDPOINT}objectives/prometheus/",
    "labels": f"{ENDPOINT}labels/",
    "alerting": "/settings/alerting/",
}


def test_axe_finds_nothing_in_either_theme_and_nothing_is_too_wide(seen: Page, world: World) -> None:
    world.start()
    names = {"alert": Incident.objects.get(key="slo:1").pk, "objective": Objective.objects.order_by("id")[0].pk}
    chosen = os.environ.get("MONITORING_PAGES", "").split(",")
    for name, path in PAGES.items():
        if chosen == [""] or name in chosen:
            looked_at(seen, path.format(**names), name)


FOCUSED = """(() => { const one = document.activeElement, style = getComputedStyle(one);
  const words = (one.getAttribute("aria-label") || one.innerText || one.name || one.tagName).trim();
  return [words, style.outlineStyle + style.boxShadow]; })()"""


def walk(seen: Page, goal: str, most: int = 200) -> list[str]:
    """Tab until what has the focus begins with ``goal``; every stop on the way. It must be seen to have the focus.
    Words and look are of one moment: a part of the page may be refreshed between two."""
    stops: list[str] = []
    for _ in range(most):
        seen.keyboard.press("Tab")
        words, look = seen.evaluate(FOCUSED)
        stops.append(str(words))
        if stops[-1].startswith(goal):
            assert look != "nonenone", f"{goal} has the focus and nobody sees it"
            return stops
    raise AssertionError(f"{goal} is not reached by Tab; stops: {stops}")


def test_the_keyboard_reaches_the_alert_and_the_way_back_in_the_order_of_the_page(seen: Page, world: World) -> None:
    rollout = world.start()
    seen.goto(ENDPOINT)
    expect(seen.locator("[data-live-indicator]")).to_contain_text("Live")
    stops = walk(seen, "Roll back to")
    alert = next(place for place, one in enumerate(stops) if one.startswith("Open the alert"))
    assert alert < len(stops) - 1, "what is wrong comes before what can be pressed"
    seen.keyboard.press("Enter")
    seen.wait_for_url(re.compile(f"/rollouts/{rollout.pk}/"))
    deadline = time.monotonic() + 60
    while not Rollout.objects.filter(pk=rollout.pk).exclude(phase=rollout.phase, asked=None).exists():
        assert time.monotonic() < deadline, "Enter did nothing"
        time.sleep(0.2)


def test_an_alert_is_taken_on_by_keyboard_alone(seen: Page) -> None:
    seen.goto(ENDPOINT)
    expect(seen.locator("[data-live-indicator]")).to_contain_text("Live")
    walk(seen, "Open the alert")
    seen.keyboard.press("Enter")
    seen.wait_for_url(re.compile("/alerts/al_"))
    expect(seen.locator("details#ask-acknowledge")).to_be_visible()
    walk(seen, "Acknowledge")
    seen.keyboard.press("Enter")
    seen.locator("details#ask-acknowledge[open]").wait_for()
    walk(seen, "Acknowledge", most=6)
    seen.keyboard.press("Enter")
    expect(seen.locator("main")).to_contain_text("Taken on by")
    assert Incident.objects.get(key="slo:1").state == "acknowledged"


def test_what_has_the_focus_keeps_it_when_the_page_refreshes(seen: Page, world: World) -> None:
    """Also a link without an id, and also where another one came before it."""
    seen.goto("/alerts/")
    expect(seen.locator("[data-live-indicator]")).to_contain_text("Live")
    first = Incident.objects.get(key="slo:1")
    link = seen.locator(f'[data-fragment] a[href="/alerts/{first.pk}/"]').first
    link.focus()
    assert link.get_attribute("id") is None
    page(world.endpoint.pk, key="slo:2", title="late-arrival: p99 is over its bound")
    expect(seen.locator("main")).to_contain_text("p99 is over its bound", timeout=30_000)
    expect(link).to_be_focused()
    seen.keyboard.press("Enter")
    seen.wait_for_url(re.compile(f"/alerts/{first.pk}/"))


def test_the_row_reached_by_keys_is_still_reached_when_the_page_refreshes(seen: Page, world: World) -> None:
    seen.goto("/alerts/")
    expect(seen.locator("[data-live-indicator]")).to_contain_text("Live")
    address = f"/alerts/{Incident.objects.get(key='slo:1').pk}/"
    seen.keyboard.press("j")
    expect(seen.locator("tr.is-here")).to_have_attribute("data-href", address)
    page(world.endpoint.pk, key="slo:2", title="late-arrival: p99 is over its bound")
    expect(seen.locator("main")).to_contain_text("p99 is over its bound", timeout=30_000)
    seen.keyboard.press("Enter")
    seen.wait_for_url(re.compile(address))


def test_a_frame_is_answered_with_a_few_questions_and_not_with_a_circle_of_them(seen: Page, world: World) -> None:
    """Forms carry a token that is another one each time, so a part with a form is never the same twice."""
    alert = Incident.objects.get(key="slo:1")
    seen.goto(f"/alerts/{alert.pk}/")
    channel = str(seen.locator("[data-fragment][data-live]").first.get_attribute("data-live")).split()[0]
    listened(seen, f"/alerts/{alert.pk}/", channel)
    asked: list[str] = []
    seen.on("request", lambda one: asked.append(one.url))
    live_publish(channel, {"id": alert.pk, "revision": time.time_ns() // 1_000_000})
    seen.wait_for_timeout(5_000)
    assert 0 < len(asked) < 20, f"{len(asked)} requests after one frame: {set(asked)}"


def test_an_alert_appears_and_goes_on_open_pages_without_a_reload(seen: Page, world: World) -> None:
    frames = listened(seen, "/alerts/", "alerts")
    page(world.endpoint.pk, key="slo:2", title="late-arrival: p99 is over its bound")
    expect(seen.locator("main")).to_contain_text("p99 is over its bound")
    heard(seen, frames, "alerts")
    gone = Observation("slo:2", "slo", None, "", "endpoint", world.endpoint.pk, "late-arrival", None, "", "")
    with transaction.atomic():
        incidents_observe([gone])
    told()
    expect(seen.locator("main")).not_to_contain_text("p99 is over its bound")
    assert seen.evaluate("window.isTheSamePage") is True


def test_requests_appear_on_the_open_page_of_the_endpoint_without_a_reload(seen: Page, world: World, web: str) -> None:
    frames = listened(seen, ENDPOINT, f"endpoint:{world.endpoint.pk}")
    requests = seen.locator('td[data-th="Requests since the change"]').first
    expect(requests).to_have_text("3,840")
    now = int(time.time()) // 10 * 10
    body = {
        "source": "s9",
        "seq": 1,
        "endpoint": "late-arrival",
        "variant": "v1-0-0",
        "slots": [wire([0.1] * 11, slot=now)],
    }
    # which the program read when it was imported
    headers = {"Authorization": f"Bearer {settings.PILOTHOUSE_INGEST_TOKEN}"}
    assert httpx.post(f"{web}/ingest/v1/slots", json=body, headers=headers, timeout=30).status_code == 200
    expect(requests).to_have_text("3,851")
    heard(seen, frames, "traffic:late-arrival")
    assert seen.evaluate("window.isTheSamePage") is True


def test_a_page_whose_socket_is_gone_says_so_with_the_age_of_its_data_and_polls(seen: Page, world: World) -> None:
    seen.route_web_socket(re.compile("/live$"), lambda socket: socket.close())
    seen.goto("/alerts/")
    indicator = seen.locator("[data-live-indicator]")
    expect(indicator).to_contain_text("Every 5 s")
    expect(indicator).to_contain_text(re.compile(r"data \d+ s old"))
    expect(seen.locator("[data-live-banner]")).to_be_visible()
    page(world.endpoint.pk, key="slo:3", title="late-arrival: seen by polling")
    expect(seen.locator("main")).to_contain_text("seen by polling")


def test_a_policy_is_replayed_before_it_is_kept_while_one_types(seen: Page) -> None:
    objective = Objective.objects.get(name="availability")
    seen.goto(f"/endpoints/-/objectives/{objective.pk}/")
    said = seen.get_by_label("What it would have done")
    expect(said).to_contain_text(re.compile(r"of [\d,]+ requests were bad"))
    target = seen.locator("input[name=target]").or_(seen.locator("input[name=target_percent]")).first
    with seen.expect_response(re.compile("/objectives/replay/")) as answered:
        target.fill("99.95")
        target.press("Tab")
    assert answered.value.status == 200
    expect(said).to_contain_text(re.compile("fired|would have|never", re.IGNORECASE))
    assert Objective.objects.get(pk=objective.pk).revision == objective.revision, "nothing is kept by looking"


def test_labels_are_stored_by_clicks_and_the_page_says_which_rows_were_not(seen: Page, tmp_path: Path) -> None:
    file = tmp_path / "outcomes.csv"
    file.write_text("request_id,value,at\nr1,1,\nr2,0,\nr1,0,\n,1,\nr3,,\nr4,1,yesterday\n")
    seen.goto(ENDPOINT)
    seen.get_by_role("link", name="Say how requests turned out").click()
    chosen = seen.get_by_label("CSV or Parquet")
    chosen.set_input_files(file)
    seen.get_by_role("button", name="Only look").click()
    came = seen.get_by_role("status").filter(has=seen.get_by_role("heading", level=2))
    expect(came).to_contain_text("outcomes.csv was only looked at")
    assert not Label.objects.exists(), "a look stores nothing"
    chosen.set_input_files(file)
    seen.get_by_role("button", name="Store the labels").click()
    expect(came.get_by_role("heading", level=2)).to_have_text("outcomes.csv is stored")
    assert facts(seen) == {"Accepted": "2", "Rejected": "3", "Repeated in the file": "1; the last one counts"}
    reasons = came.locator("tbody tr")
    expect(reasons).to_have_count(3)
    expect(came).to_contain_text("at must be Unix seconds or RFC 3339")
    came.get_by_text("Row by row").click()
    expect(came.locator("details li")).to_contain_text(
        ["row 4: request_id", "row 5: value is missing", "row 6: at must"]
    )
    assert dict(Label.objects.values_list("request_id", "value")) == {"r1": 0, "r2": 0}
    expect(seen.locator("main")).to_contain_text("2 labels of late-arrival are kept")


def facts(seen: Page) -> dict[str, str]:
    """The first three facts of the answer, by their names."""
    names, values = seen.locator("dl.facts dt").all_inner_texts(), seen.locator("dl.facts dd").all_inner_texts()
    return dict(list(zip(names, (one.strip() for one in values), strict=True))[:3])


VERSIONS = [f"v1-{minor}-{patch}" for minor in range(5) for patch in range(2)]


def a_month_of_ten_versions(endpoint: str) -> None:
    """Hours of 30 days, as roll-ups keep them: each version a little slower than the one before, two at a time."""
    random = np.random.default_rng(3)
    until = int(time.time()) // 3600 * 3600
    rows = []
    for hour in range(720):
        for place in {hour // 72, min(9, (hour + 24) // 72)}:
            values = random.lognormal(-3.4 + 0.08 * place, 0.5 + 0.1 * np.sin(hour / 4), 60)
            latency = ExponentialHistogram.from_values(values)
            indexes, counts = latency.to_blobs()
            bad = int(random.random() < 0.2)
            rows.append(
                RollUp(
                    endpoint=endpoint, variant=VERSIONS[place], route="weighted", period=1, resolution=3600,
                    slot_at=until - 3600 * (720 - hour), total=60, good=60 - bad, other_5xx=bad, zero=0,
                    indexes=indexes, counts=counts, latency_ns=latency.sum_ns, latency_min=latency.minimum,
                    latency_max=latency.maximum, updated_at=now(),
                )
            )  # fmt: skip
    RollUp.objects.bulk_create(rows)
    gone = {f"kept_{level}": until for level in (10, 60, 600)}
    taken = {f"until_{level}": until for level in (60, 600, 3600)}
    RollUpMark.objects.update_or_create(endpoint=endpoint, defaults={**gone, **taken, "due_at": now()})


# Refreshed at any moment: whoever holds on to an element of the page may hold one that has left it.
DRAWN = """(() => { document.querySelector("[data-shared-cursor]").scrollIntoView({ block: "start" });
  return document.querySelectorAll(".js-plotly-plot .xtick").length >= 4; })()"""
MIDDLE = """(() => { const box = document.querySelector('[data-figure="latency"] .nsewdrag').getBoundingClientRect();
  return [box.left, box.width, box.top + box.height / 2]; })()"""
HOVERED = "document.querySelectorAll('.hoverlayer .hovertext, .hoverlayer .legend').length"
MOMENTS = """(document.querySelector('[data-figure="latency"] .js-plotly-plot')._hoverdata ?? []).map((one) => one.x)"""
REDRAW = """Promise.all([...document.querySelectorAll(".js-plotly-plot")].map(async (plot) => {
  const begun = performance.now(); await Plotly.redraw(plot); return performance.now() - begun;
}))"""


def until(seen: Page, condition: str) -> None:
    """Ask the page again and again: its policy forbids what Playwright's own waiting evaluates."""
    deadline = time.monotonic() + PATIENCE_MS / 1000
    while not seen.evaluate(condition):
        assert time.monotonic() < deadline, condition
        seen.wait_for_timeout(20)


def test_ten_versions_over_thirty_days_are_told_apart_and_answer_the_pointer(seen: Page, world: World) -> None:
    a_month_of_ten_versions("late-arrival")
    begun = time.perf_counter()
    seen.goto(f"{ENDPOINT}?range=30d")
    until(seen, DRAWN)
    loaded = time.perf_counter() - begun
    latency = seen.locator('[data-figure="latency"]')
    for version in VERSIONS:
        expect(latency.locator(".keys")).to_contain_text(version.removeprefix("v").replace("-", "."))
    redrawn = seen.evaluate(REDRAW)
    took = []
    for share in (0.3, 0.5, 0.7):
        begun = time.perf_counter()
        left, width, middle = seen.evaluate(MIDDLE)
        seen.mouse.move(left + share * width, middle, steps=3)
        until(seen, f"{HOVERED} > 1")
        took.append(time.perf_counter() - begun)
    left, width, middle = seen.evaluate(MIDDLE)
    for place in range(20, int(width) - 20, 5):
        seen.mouse.move(left + place, middle)
        assert len(set(seen.evaluate(MOMENTS))) <= 1, "a version that has left is not shown beside those that came"
    print(f"first drawn {loaded:.1f} s, redrawn {redrawn} ms, hover {took} s")
    if PICTURES:
        looked_at(seen, f"{ENDPOINT}?range=30d", "ten-versions")
