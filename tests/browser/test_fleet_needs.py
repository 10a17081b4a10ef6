"""The fleet at 3 a.m. and on the morning after, in a real Chromium: the first line, where to press, what comes next."""

from __future__ import annotations

import re

from playwright.sync_api import Page, expect

from apps.alerts.models import Incident
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now
from apps.registry.services.register import version_register
from apps.rollouts.services.tick import rollout_tick
from tests.api.world import World, artifact
from tests.browser.axe import violations
from tests.browser.test_experiment_pages import looked_at
from tests.browser.test_monitoring import django_db_setup, heard, listened, page, pytestmark, seen, walk, world

__all__ = ["django_db_setup", "pytestmark", "seen", "world"]


def test_the_fleet_with_pages_and_many_versions_is_for_everybody(seen: Page, world: World) -> None:
    for minor in range(2, 8):
        path = artifact(world.folder / f"1.{minor}.0", f"late {minor}")
        version_register(actor=SYSTEM, model_name="late-arrival", semver=f"1.{minor}.0", path=path)
    looked_at(seen, "/", "fleet-needs")
    seen.locator("#more-offers summary").click()
    assert violations(seen) == []
    expect(seen.locator("#more-offers").get_by_role("link")).to_have_count(4)


def test_a_rollout_with_gates_is_for_everybody(seen: Page, world: World) -> None:
    rollout = world.start()
    for _ in range(20):
        rollout_tick(rollout.pk, "test")
    looked_at(seen, f"/rollouts/{rollout.pk}/", "rollout-gates")
    expect(seen.get_by_role("heading", name=re.compile("^error rate"), level=2)).to_be_visible()


def test_a_page_is_taken_on_from_the_fleet_by_keyboard_alone(seen: Page) -> None:
    seen.goto("/")
    expect(seen.locator("[data-live-indicator]")).to_contain_text("Live")
    first = seen.locator(".needs li").first
    expect(first).to_contain_text("page, firing")
    alert = Incident.objects.get(key="slo:1")
    stops = walk(seen, f"Acknowledge: {alert.title}")
    assert f"Open: {alert.title}" in stops
    seen.keyboard.press("Enter")
    expect(seen.locator("main")).to_contain_text(f"You look after it now: {alert.title}")
    assert seen.url.endswith("/"), "back where the person was"
    assert Incident.objects.get(pk=alert.pk).state == "acknowledged"
    expect(seen.locator(".needs")).not_to_contain_text(alert.title)


def test_a_page_comes_to_the_top_of_the_open_fleet_without_a_reload(seen: Page, world: World) -> None:
    frames = listened(seen, "/", "alerts")
    page(world.endpoint.pk, key="slo:2", title="late-arrival: p99 is over its bound")
    expect(seen.locator(".needs")).to_contain_text("p99 is over its bound")
    heard(seen, frames, "alerts")
    assert seen.evaluate("window.isTheSamePage") is True


def test_what_was_opened_under_the_cards_stays_open_when_the_list_refreshes(seen: Page, world: World) -> None:
    for minor in range(2, 8):
        path = artifact(world.folder / f"1.{minor}.0", f"late {minor}")
        version_register(actor=SYSTEM, model_name="late-arrival", semver=f"1.{minor}.0", path=path)
    seen.goto("/")
    seen.locator("#more-offers summary").click()
    page(world.endpoint.pk, key="slo:2", title="late-arrival: p99 is over its bound")
    expect(seen.locator(".needs")).to_contain_text("p99 is over its bound", timeout=30_000)
    expect(seen.locator("#more-offers")).to_have_attribute("open", "")


def test_a_quiet_fleet_fits_a_narrow_phone(seen: Page) -> None:
    Incident.objects.update(state="resolved", resolved_at=now(), has_cleared=True)
    seen.set_viewport_size({"width": 360, "height": 800})
    seen.goto("/")
    expect(seen.locator(".quiet-line")).to_contain_text("Nothing waits for you, and no alert is open.")
    assert seen.evaluate("document.documentElement.scrollWidth") == 360
