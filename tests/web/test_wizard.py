"""The wizard: a draft in the address, faults at their fields, a start that is held to the plan shown."""

from __future__ import annotations

import re
from html import unescape

import pytest

from apps.kernel.actor import SYSTEM
from apps.registry.services.register import model_create, version_register
from apps.rollouts.models import Rollout
from tests.api.world import World, artifact
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
    assert "the plan changed after you looked" in answer.content.decode()
    assert "does not know which plan you saw" in answer.content.decode()
    assert not Rollout.objects.exists()


def _shown(html: str) -> str:
    found = re.search(r'name="shown_plan" value="([^"]+)"', html)
    assert found is not None
    return unescape(found.group(1))


def test_what_changed_since_the_plan_was_shown_is_said_in_words_and_the_input_is_kept(
    world: World, browser: Browser
) -> None:
    alice = browser("alice")
    html = alice.get("/rollouts/new/", {**DRAFT, "step": "start"}).content.decode()
    sent = {**DRAFT, "slow_ms": "400", "note": "OPS-7", "plan_hash": _hash(html), "shown_plan": _shown(html)}
    answer = alice.post("/rollouts/new/", sent)
    said = answer.content.decode()
    assert answer.status_code == 409
    assert "at most 1 % over 500 ms" in said
    assert "at most 1 % over 400 ms" in said
    assert "Guardrails" in said
    assert "<b>Strategy</b>" not in said, "only what differs is listed"
    assert 'name="note" value="OPS-7"' in said
    again = alice.post("/rollouts/new/", {**sent, "plan_hash": _hash(said), "shown_plan": _shown(said)})
    assert again.status_code == 302, "the second press starts the plan as it is now"


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"strategy": "canary"}', "x" * 70_000])
def test_a_shown_plan_that_is_none_is_no_reason_to_fail(world: World, browser: Browser, text: str) -> None:
    sent = {**DRAFT, "plan_hash": "sha256:" + "0" * 64, "shown_plan": text}
    answer = browser("alice").post("/rollouts/new/", sent)
    assert answer.status_code == 409
    assert "does not know which plan you saw" in answer.content.decode()


def test_a_version_that_fits_nowhere_is_told_why_and_the_ways_on(world: World, browser: Browser) -> None:
    html = browser("alice").get("/rollouts/new/", {**DRAFT, "version": "2.0.0", "step": "where"}).content.decode()
    assert "Callers of 1.0.0 do not send &#x27;tail&#x27; (string), which it requires." in html
    assert "Register a version that takes today's calls" in html
    assert "curl -X POST" in html
    assert re.search(r'value="how" disabled aria-describedby="stuck-why"', html)


def test_a_number_out_of_range_is_quoted_as_it_was_typed(world: World, browser: Browser) -> None:
    html = browser("alice").get("/rollouts/new/", {**DRAFT, "error_limit": "1234567.00", "step": "plan"}).content
    assert "1234567.00 is outside 0.01 to 50." in html.decode()


def test_a_model_that_does_not_exist_is_named_and_the_others_are_offered(world: World, browser: Browser) -> None:
    html = browser("alice").get("/rollouts/new/", {"model": "nope"}).content.decode()
    assert "There is no model nope." in html
    assert "late-arrival@1.1.0" in html
    assert "No model is registered" not in html


def test_an_unknown_way_with_a_busy_endpoint_still_shows_the_plan(world: World, browser: Browser) -> None:
    html = browser("alice").get("/rollouts/new/", {**DRAFT, "on_busy": "zzz", "step": "plan"}).content.decode()
    assert "&#x27;zzz&#x27; is not one of the ways" in html
    assert "Requests are what it takes to prove a step" in html
    assert "The way back" in html


def test_a_busy_endpoint_blocks_the_start_and_offers_the_ways_out(world: World, browser: Browser) -> None:
    world.start()
    html = browser("alice").get("/rollouts/new/", {**DRAFT, "step": "start"}).content.decode()
    assert "late-arrival is busy with" in html
    assert "disabled>Start the rollout" in html


def test_a_viewer_may_not_plan(world: World, browser: Browser) -> None:
    assert browser("bob").get("/rollouts/new/").status_code == 403


def test_how_long_the_old_version_is_kept_warm_goes_into_the_plan_and_the_curl(world: World, browser: Browser) -> None:
    alice = browser("alice")
    html = alice.get("/rollouts/new/", {**DRAFT, "step": "how"}).content.decode()
    assert 'name="keep_warm" value=""' in html
    html = alice.get("/rollouts/new/", {**DRAFT, "keep_warm": "90", "step": "plan"}).content.decode()
    assert "&quot;keep_warm_seconds&quot;: 90" in html
    assert "For 90 s after the promotion they are kept warm" in html
    html = alice.get("/rollouts/new/", {**DRAFT, "keep_warm": "90", "step": "start"}).content.decode()
    answer = alice.post("/rollouts/new/", {**DRAFT, "keep_warm": "90", "plan_hash": _hash(html)})
    assert answer.status_code == 302
    assert Rollout.objects.get().plan["keep_warm_seconds"] == 90


@pytest.mark.parametrize("typed", ["soon", "1.5", "-1", "1e9"])
def test_a_warm_time_that_is_none_is_a_fault_at_its_field(world: World, browser: Browser, typed: str) -> None:
    answer = browser("alice").get("/rollouts/new/", {**DRAFT, "keep_warm": typed, "step": "plan"})
    assert answer.status_code == 422
    assert 'aria-describedby="fault-keep_warm"' in answer.content.decode()


def test_a_strategy_that_leaves_nothing_behind_asks_for_no_warm_time(world: World, browser: Browser) -> None:
    html = browser("alice").get("/rollouts/new/", {**DRAFT, "strategy": "recreate", "step": "how"}).content.decode()
    assert 'id="keep_warm"' not in html


def test_of_several_models_the_newest_versions_are_shown_and_a_chosen_older_one_too(
    world: World, browser: Browser
) -> None:
    model_create(actor=SYSTEM, name="churn")
    for minor in range(5):
        path = artifact(world.folder / "churn" / str(minor), f"churn {minor}")
        version_register(actor=SYSTEM, model_name="churn", semver=f"1.{minor}.0", path=path)
    alice = browser("alice")
    html = alice.get("/rollouts/new/").content.decode()
    shown, older = html.split('<details class="older" id="older-churn"><summary>2 older</summary>')
    assert re.findall(r'value="churn@([0-9.]+)"', shown) == ["1.4.0", "1.3.0", "1.2.0"]
    assert re.findall(r'value="churn@([0-9.]+)"', older.split("</details>")[0]) == ["1.1.0", "1.0.0"]
    chosen = alice.get("/rollouts/new/", {"model": "churn", "version": "1.0.0"}).content.decode()
    assert '<details class="older" id="older-churn" open>' in chosen
