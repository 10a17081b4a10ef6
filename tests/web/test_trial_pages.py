"""A/B in the wizard, and on the pages of the rollout and of its experiment."""

from __future__ import annotations

import re
from html import unescape

import pytest

from apps.experiments.models import Experiment
from apps.experiments.services.readouts import readout_compute, readout_request
from apps.kernel.actor import SYSTEM
from apps.rollouts.models import Rollout
from apps.rollouts.services.tick import rollout_tick
from apps.rollouts.web.trial_draft import TRIAL_DEFAULTS
from apps.targets.services.observe import endpoint_observe
from tests.api.world import World
from tests.web.conftest import Browser, report
from tests.web.test_wizard import DRAFT

TYPED = {**DRAFT, **TRIAL_DEFAULTS, "strategy": "ab", "ab_metric": "slow", "ab_per_day": "1,500", "approval": "no"}


def test_the_numbers_stand_beside_the_form(world: World, browser: Browser) -> None:
    html = browser("alice").get("/rollouts/new/", {**TYPED, "step": "how"}).content.decode()
    assert 'name="ab_baseline"' in html
    assert "requests over both versions" in html
    assert "power.prop.test(p1 = 0.03, p2 = 0.024" in html
    assert "21 days" in html


@pytest.mark.parametrize(
    ("typed", "field", "said"),
    [
        ({"ab_baseline": "many"}, "ab_baseline", "many is not a number"),
        ({"ab_share": "100"}, "ab_share", "100 is outside 1 to 99"),
        ({"ab_metric": "event", "ab_event": ""}, "ab_event", "Name the outcome event"),
        ({"ab_days": "0"}, "ab_total", "say how many units are planned"),
        ({"ab_look": "often"}, "ab_look", "24 h, 30 min or 20 s"),
    ],
)
def test_what_cannot_be_read_is_said_at_its_field(
    world: World, browser: Browser, typed: dict[str, str], field: str, said: str
) -> None:
    answer = browser("alice").get("/rollouts/new/", {**TYPED, **typed, "step": "guardrails"})
    html = answer.content.decode()
    assert answer.status_code == 422
    assert said in html.split(f'id="fault-{field}"')[1].split("</p>")[0]


def test_another_strategy_carries_nothing_of_an_experiment(world: World, browser: Browser) -> None:
    """Neither in its address, nor in its form, nor in the addresses of the other steps."""
    alice = browser("alice")
    moved = alice.get("/rollouts/new/", {**TYPED, "strategy": "canary", "step": "how"})
    assert moved.status_code == 302
    address = moved.headers["Location"]
    assert "ab_" not in address
    assert "strategy=canary" in address
    assert "step=how" in address
    for step in ("how", "guardrails", "plan", "start"):
        html = alice.get(address.replace("step=how", f"step={step}")).content.decode()
        assert "ab_" not in html, step
        assert f'name="model" value="{DRAFT["model"]}"' in html
    alice.get(address.replace("strategy=canary", "strategy=ab"))  # the usual values are there again
    assert 'name="ab_baseline"' in alice.get(address.replace("strategy=canary", "strategy=ab")).content.decode()


THEIRS = {"ab_metric": "event", "ab_event": "bought", "ab_baseline": "4.5", "ab_per_day": "", "ab_why": "A & B < C",
          "ab_slow_ms": "320"}  # fmt: skip


def values_of(html: str) -> dict[str, str]:
    """What the form of the step would send of an experiment."""
    found: dict[str, str] = {}
    for tag in re.findall(r"<input[^>]*>", html):
        said = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        if said.get("name", "").startswith("ab_"):
            found[said["name"]] = said["value"]
    found |= dict(re.findall(r'<textarea[^>]* name="(ab_\w+)"[^>]*>([^<]*)</textarea>', html))
    for name, options in re.findall(r'<select[^>]* name="(ab_\w+)"[^>]*>(.*?)</select>', html, re.DOTALL):
        found[name] = re.findall(r'value="([^"]*)" selected', options)[0]
    return {name: unescape(value) for name, value in found.items()}


@pytest.mark.parametrize("way", [("canary",), ("shadow", "blue_green"), ("recreate", "canary", "shadow")])
def test_what_was_typed_into_an_experiment_is_there_again_after_a_look_at_other_strategies(
    world: World, browser: Browser, way: tuple[str, ...]
) -> None:
    alice = browser("alice")
    typed = {**TYPED, **THEIRS}
    before = values_of(alice.get("/rollouts/new/", {**typed, "step": "how"}).content.decode())
    assert before.items() >= THEIRS.items()
    sent, html = typed, ""
    for strategy in way:
        html = alice.get("/rollouts/new/", {**sent, "strategy": strategy, "step": "how"}, follow=True).content.decode()
        sent = {name: value for name, value in sent.items() if not name.startswith("ab_")}
        assert values_of(html) == {}
        assert "The experiment" not in html
    back = alice.get("/rollouts/new/", {**sent, "strategy": "ab", "step": "how"}, follow=True)
    assert values_of(back.content.decode()) == before
    assert "ab_event=bought" in back.redirect_chain[-1][0], "the address of a step carries what is chosen"


def test_what_was_typed_for_one_version_is_not_proposed_for_another(world: World, browser: Browser) -> None:
    alice = browser("alice")
    alice.get("/rollouts/new/", {**TYPED, **THEIRS, "strategy": "canary", "step": "how"})
    other = alice.get("/rollouts/new/", {**DRAFT, "version": "2.0.0", "strategy": "ab", "step": "how"}, follow=True)
    assert "bought" not in other.content.decode()
    same = alice.get("/rollouts/new/", {**DRAFT, "strategy": "ab", "step": "guardrails"}, follow=True)
    assert "bought" not in same.content.decode(), "a shared address means what it says"
    again = alice.get("/rollouts/new/", {**DRAFT, "strategy": "ab", "step": "how"}, follow=True)
    assert "bought" in again.content.decode()


def test_what_another_strategy_does_not_use_is_neither_in_its_plan_nor_kept_after_the_start(
    world: World, browser: Browser
) -> None:
    alice = browser("alice")
    typed = {**TYPED, **THEIRS, "keep_warm": "90", "approval": "two"}
    shadow = alice.get("/rollouts/new/", {**typed, "strategy": "shadow", "step": "start"}, follow=True).content.decode()
    assert "bought" not in shadow
    assert 'name="keep_warm"' not in shadow
    found = re.search(r'name="plan_hash" value="([^"]+)"', shadow)
    assert found is not None
    answer = alice.post("/rollouts/new/", {**DRAFT, "strategy": "shadow", "plan_hash": found.group(1)})
    assert answer.status_code == 302
    plan = Rollout.objects.get().plan
    assert not {"experiment", "approval"} & {step["kind"] for step in plan["steps"]}
    later = alice.get("/rollouts/new/", {**DRAFT, "strategy": "ab", "step": "how"}, follow=True).content.decode()
    assert "bought" not in later


def test_an_approval_and_a_warm_version_come_back_after_a_shadow_and_once(world: World, browser: Browser) -> None:
    alice = browser("alice")
    canary = {**DRAFT, "strategy": "canary", "step": "how"}
    alice.get("/rollouts/new/", {**canary, "keep_warm": "90", "approval": "two", "strategy": "shadow"})
    back = alice.get("/rollouts/new/", canary, follow=True).content.decode()
    assert re.search(r'name="keep_warm" value="90"', back)
    assert re.search(r'value="two" data-reload checked', back)
    alice.get("/rollouts/new/", {**canary, "keep_warm": "", "approval": "two", "step": "guardrails"})
    again = alice.get("/rollouts/new/", {**canary, "approval": "two"}, follow=True).content.decode()
    assert re.search(r'name="keep_warm" value=""', again), "emptied is emptied"


def test_what_is_reckoned_says_when_and_what_is_pinned_says_so(world: World, browser: Browser) -> None:
    alice = browser("alice")
    measured = alice.get("/rollouts/new/", {**TYPED, "ab_per_day": "", "step": "start"}).content.decode()
    assert re.search(r"estimates as of \d\d:\d\d UTC and no part of it", measured)
    pinned = alice.get("/rollouts/new/", {**TYPED, "step": "start"}).content.decode()
    assert "1,500 requests a day, which is part of the plan" in pinned
    canary = alice.get("/rollouts/new/", {**DRAFT, "step": "start"}).content.decode()
    assert re.search(r"estimates as of \d\d:\d\d UTC and no part of it", canary)


def test_an_experiment_is_started_from_the_wizard_and_shown_on_both_pages(world: World, browser: Browser) -> None:
    alice = browser("alice")
    typed = {**TYPED, "ab_days": "0", "ab_total": "400", "ab_look": "5 s"}
    html = alice.get("/rollouts/new/", {**typed, "step": "start"}).content.decode()
    found = re.search(r'name="plan_hash" value="([^"]+)"', html)
    assert found is not None, html
    answer = alice.post("/rollouts/new/", {**typed, "plan_hash": found.group(1)})
    assert answer.status_code == 302
    rollout = Rollout.objects.get()
    page = f"/rollouts/{rollout.pk}/"
    assert "A/B on" in alice.get(page).content.decode()
    assert "The experiment" not in alice.get(f"{page}head/").content.decode()
    experiment = running(rollout)
    head = alice.get(f"{page}head/").content.decode()
    assert "of 400 units" in re.sub(r"<[^>]+>", "", head)
    assert f"/experiments/{experiment.pk}/" in head
    theirs = alice.get(f"/experiments/{experiment.pk}/").content.decode()
    assert page in theirs
    assert "A rollout runs this experiment as a step of its plan" in theirs
    actions = alice.get(f"/experiments/{experiment.pk}/actions/").content.decode()
    assert f"The rollout {rollout.pk} runs this experiment as a step" in actions
    refused = alice.post(f"/experiments/{experiment.pk}/do/stop/", {"reason": "enough"})
    assert "runs this experiment as a step of its plan" in refused.content.decode()
    readout_compute(readout_request(actor=SYSTEM, experiment_id=experiment.pk).pk)
    head = alice.get(f"{page}head/").content.decode()
    assert "relative" in head
    assert "with the candidate" in head


def running(rollout: Rollout) -> Experiment:
    """The target takes the candidate, callers call, and the split is verified."""
    for _ in range(6):
        endpoint_observe(rollout.endpoint_id)
        rollout_tick(rollout.pk, "test")
        rollout.refresh_from_db()
        if rollout.phase == "shifting":
            for variant, slow in (("v1-0-0", 12), ("v1-1-0", 2)):
                report(variant, seconds=[0.9] * slow + [0.02] * (100 - slow), period=rollout.period)
        if rollout.phase == "gating":
            break
    assert rollout.phase == "gating", (rollout.phase, rollout.reason)
    return Experiment.objects.get(pk=rollout.experiment_id)
