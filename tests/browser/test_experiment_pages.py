"""The pages of experiments in a real Chromium: designed, running, decided, and two versions on the same inputs.

A web server of the test's own and a laboratory behind it: what the pages show was put in through the services, so that
every state of an experiment can be looked at.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import BrowserContext, Page, expect, sync_playwright
from pytest_django.live_server_helper import LiveServer

from apps.experiments.models import Experiment, Study
from apps.experiments.services.decide import experiment_decide
from apps.experiments.services.studies import study_advance
from apps.telemetry.services.records import labels_add
from tests.audit.flushable import django_db_setup
from tests.browser.axe import violations
from tests.browser.conftest import is_fault
from tests.browser.steps import FLAGS, chromium_path
from tests.cast import make_user
from tests.experiments.lab import Lab, opened
from tests.experiments.test_shadow import _sampled
from tests.fakes.targets import ALICE

__all__ = ["django_db_setup"]
pytestmark = [pytest.mark.browser, pytest.mark.real, pytest.mark.timeout(600)]
CONVERSION = {"key": "conversion", "name": "bookings", "kind": "proportion", "event": "purchase"}
SPEND = {"key": "spend", "kind": "mean", "event": "purchase"}
PICTURES = os.environ.get("PICTURES_FOLDER", "")
WIDTHS = (1440, 800, 390)


@pytest.fixture
def lab(transactional_db: None, tmp_path: Path) -> Iterator[Lab]:
    with opened(tmp_path) as found:
        yield found


@pytest.fixture
def page(lab: Lab, live_server: LiveServer, sessions_end: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[Page]:
    """A signed-in page; what it left in the console fails the test. Live frames need the product's own server: the
    pages ask again by the clock here, as they do where a socket is cut."""
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    client = Client()
    client.force_login(make_user("alice"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium_path(), args=FLAGS)
        context: BrowserContext = browser.new_context(
            viewport={"width": 1440, "height": 900}, base_url=live_server.url, device_scale_factor=1
        )
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": live_server.url}])
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda one: said.append(one.text) if is_fault(one) and "WebSocket" not in one.text else None)
        page.on("pageerror", lambda error: said.append(str(error)))
        yield page
        browser.close()
    assert said == []


def looked_at(page: Page, path: str, name: str) -> None:
    """No rule of axe is broken in either theme, no window is too narrow; a picture of each where a folder is named."""
    for theme in ("light", "dark"):
        page.emulate_media(color_scheme=theme)  # type: ignore[arg-type]
        page.set_viewport_size({"width": 1440, "height": 900})
        page.goto(path)
        page.wait_for_load_state("networkidle")
        assert violations(page) == [], f"{name}, {theme}"
        _picture(page, f"{name}-desktop-{theme}")
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 844})
            for _ in range(100):  # charts follow a new width a moment later
                seen = page.evaluate("document.documentElement.scrollWidth")
                if seen <= width:
                    break
                page.wait_for_timeout(100)
            assert seen <= width, f"{name} is {seen} px wide in a window of {width}"
        _picture(page, f"{name}-phone-{theme}")


def _picture(page: Page, name: str) -> None:
    if PICTURES:
        page.wait_for_timeout(600)
        page.screenshot(path=f"{PICTURES}/{name}.png", full_page=True)


def running(lab: Lab) -> Experiment:
    """Five days of users; who gets the new version books more often and spends as much."""
    experiment = lab.running(
        metrics=[CONVERSION, SPEND], primary="conversion", secondary=["spend"], dimensions=["country"], minimum_days=3,
        planned_total=2600,
    )  # fmt: skip
    rng = np.random.default_rng(4)
    for day in range(5):
        lab.clock.forward(7200)
        units = [f"user-{day}-{index}" for index in range(500 - 30 * day)]
        lab.expose(experiment, units, dimensions={"country": [("de", "fr", "at")[i % 3] for i in range(len(units))]})
        arms = np.array(lab.arms(experiment, units))
        books = rng.random(len(units)) < np.where(arms == "treatment", 0.27, 0.2)
        chosen = [unit for unit, yes in zip(units, books, strict=True) if yes]
        lab.happen(experiment, chosen, values=[float(x) for x in rng.exponential(40, len(chosen))])
        lab.look(experiment)
        lab.clock.forward(86_400 - 7200)
    lab.look(experiment)
    return experiment


def test_the_design_page_is_for_everybody_and_tries_a_plan_out(page: Page, lab: Lab) -> None:
    filled = (
        f"/experiments/new/?endpoint={lab.site.endpoint.name}&version=1.1.0&name=does+it+help&event=purchase"
        "&baseline=20&effect=25&units_per_day=900&hypothesis=It+sells+more"
    )
    looked_at(page, filled, "design")
    page.set_viewport_size({"width": 1440, "height": 900})
    page.get_by_role("button", name="Try it 10,000 times").click()
    expect(page.locator("#study progress")).to_be_visible()
    while study_advance(Study.objects.get().pk).state != "done":
        pass
    expect(page.locator("#study")).to_contain_text("Tried 10,000 times", timeout=30_000)
    page.locator("#grid summary").click()
    assert violations(page) == []
    _picture(page, "design-simulated")


def test_the_labels_of_the_power_curves_do_not_overlap(page: Page, lab: Lab) -> None:
    page.goto(
        f"/experiments/new/?endpoint={lab.site.endpoint.name}&version=1.1.0&event=purchase&baseline=20&effect=25"
        "&units_per_day=900&hypothesis=x"
    )
    labels = page.locator("#numbers .annotation-text")
    expect(labels.first).to_be_visible(timeout=30_000)
    boxes = sorted((box for one in labels.all() if (box := one.bounding_box())), key=lambda box: box["y"])
    assert len(boxes) >= 5
    for upper, lower in pairwise(boxes):
        assert upper["y"] + upper["height"] <= lower["y"] + 1


def test_a_running_experiment_is_for_everybody(page: Page, lab: Lab) -> None:
    experiment = running(lab)
    looked_at(page, f"/experiments/{experiment.pk}/", "running")
    expect(page.locator("main")).to_contain_text("usually larger")
    expect(page.locator("main")).to_contain_text("Units as they came")
    looked_at(page, "/experiments/", "list")


def test_a_decided_experiment_is_for_everybody(page: Page, lab: Lab) -> None:
    experiment = running(lab)
    look = lab.look(experiment)
    experiment_decide(
        actor=ALICE, experiment_id=experiment.pk, kind="ship", readout_id=look.pk, reason="the better one"
    )
    looked_at(page, f"/experiments/{experiment.pk}/", "decided")
    expect(page.get_by_role("link", name="Roll out 1.1.0")).to_be_visible()
    with page.expect_download() as taken:
        page.get_by_role("link", name="Bundle").click()
    assert taken.value.path().read_bytes().startswith(b"PK")


def test_two_versions_on_the_same_inputs_are_for_everybody(page: Page, lab: Lab) -> None:
    first = {f"r{i}": ("cat", "dog", "owl")[i % 3] for i in range(90)}
    _sampled(lab, "v1-0-0", "weighted", dict(list(first.items())[:45]), "de")
    _sampled(lab, "v1-0-0", "weighted", dict(list(first.items())[45:]), "fr")
    _sampled(
        lab, "v1-1-0", "mirrored", {key: "owl" if i % 6 == 0 else said for i, (key, said) in enumerate(first.items())}
    )
    at = lab.clock().timestamp()
    truth = [{"request_id": f"r{i}", "value": "owl" if i % 12 == 0 else first[f"r{i}"], "at": at} for i in range(80)]
    labels_add({"endpoint": lab.site.endpoint.name, "labels": truth})
    path = f"/experiments/shadow/?endpoint={lab.site.endpoint.name}&first=v1-0-0&second=v1-1-0&segment=country"
    looked_at(page, path, "shadow")
    expect(page.get_by_label("Agreement")).to_contain_text("%")
    with page.expect_download() as taken:
        page.get_by_role("link", name="CSV").click()
    assert taken.value.path().read_text().startswith("segment,pairs,agreement")
