"""The wizard: a draft in the address, faults at their fields, a start that is held to the plan shown."""

from __future__ import annotations

import re

import pytest

from apps.rollouts.models import Rollout
from tests.api.world import World
from tests.web.conftest import Browser

DRAFT = {"model": "late-arrival", "version": "1.1.0", "endpoint": "late-arrival", "profile": "fast", "boxes": "1",
         "errors": "on", "error_limit": "1", "slow": "on", "slow_ms": "500", "slow_limit": "1"}  # fmt: skip


@pytest.mark.parametrize("step", ["what", "where", "how", "guardrails", "plan", "start"])
def test_every_step_has_an_address(world: World, browser: Browser, step: str) -> None:
    answer = browser("alice").get("/rollouts/new/", {**DRAFT, "step": step})
    html = answer.content.decode()
    assert answer.status_code == 200
    assert html.count('aria-current="step"') >= 1
    assert "Calls made for 1.0.0 fit 1.1.0." in html, "the plan stands at the side of every step"


def test_a_step_that_skips_the_choice_before_it_leads_back_to_it(world: World, browser: Browser) -> None:
    answer = browser("alice").get("/rollouts/new/", {"step": "plan"})
    assert answer.status_code == 422
    assert "Choose the version that is to be rolled out." in answer.content.decode()


def test_a_number_that_is_none_is_a_fault_at_its_field(world: World, browser: Browser) -> None:
    answer = browser("alice").get("/rollouts/new/", {**DRAFT, "slow_ms": "fast", "step": "plan"})
    html = answer.content.decode()
    assert answer.status_code == 422
    assert re.search(r'name="slow_ms" value="fast"[^>]*aria-invalid="true" aria-describedby="fault-slow_ms"', html)
    assert "fast is not a number" in html


def test_a_version_that_breaks_callers_cannot_be_picked_and_says_which_field(world: World, browser: Browser) -> None:
    html = (
        browser("alice").get("/rollouts/new/", {"model": "late-arrival", "endpoint": "late-arrival"}).content.decode()
    )
    choice = html.split('value="late-arrival@2.0.0"')[1].split("</label>")[0]
    assert "disabled" in choice
    assert "tail" in choice


def test_a_version_that_does_not_exist_is_a_fault_at_the_version(world: World, browser: Browser) -> None:
    answer = browser("alice").get("/rollouts/new/", {**DRAFT, "version": "7.7.7", "step": "how"})
    assert answer.status_code == 422
    assert "has no version 7.7.7" in answer.content.decode()


def _hash(html: str) -> str:
    found = re.search(r'name="plan_hash" value="([^"]+)"', html)
    assert found is not None
    return found.group(1)


def test_an_engineer_starts_exactly_the_plan_that_was_shown(world: World, browser: Browser) -> None:
    alice = browser("alice")
    html = alice.get("/rollouts/new/", {**DRAFT, "note": "OPS-1", "step": "start"}).content.decode()
    answer = alice.post("/rollouts/new/", {**DRAFT, "note": "OPS-1", "plan_hash": _hash(html)})
    rollout = Rollout.objects.get()
    assert answer.status_code == 302
    assert answer.headers["Location"] == f"/rollouts/{rollout.pk}/"
    assert (rollout.note, rollout.plan_hash, rollout.plan["profile"]) == ("OPS-1", _hash(html), "fast")


def test_another_plan_than_the_one_shown_is_not_started(world: World, browser: Browser) -> None:
    answer = browser("alice").post("/rollouts/new/", {**DRAFT, "plan_hash": "sha256:" + "0" * 64})
    assert answer.status_code == 409
    assert "no longer the plan that was shown" in answer.content.decode()
    assert not Rollout.objects.exists()


def test_a_busy_endpoint_blocks_the_start_and_offers_the_ways_out(world: World, browser: Browser) -> None:
    world.start()
    html = browser("alice").get("/rollouts/new/", {**DRAFT, "step": "start"}).content.decode()
    assert "late-arrival is busy with" in html
    assert "disabled>Start the rollout" in html


def test_a_viewer_may_not_plan(world: World, browser: Browser) -> None:
    assert browser("bob").get("/rollouts/new/").status_code == 403
