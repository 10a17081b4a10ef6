"""The pages of rollout sequences: the form with its dry run, the waves, the buttons and who may press them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from apps.accounts.domain.roles import Role
from apps.kernel.actor import SYSTEM
from apps.rollouts.domain.waves import WaveAsked
from apps.rollouts.models import Rollout, RolloutSequence, SequenceMember
from apps.rollouts.services.sequence_tick import sequence_tick
from apps.rollouts.services.sequences import sequence_plan, sequence_start
from apps.targets.services.connect import endpoint_create, target_create, target_probe
from tests.api.world import World
from tests.cast import make_user
from tests.web.conftest import Browser

FORM = {
    "pick": "late-arrival@1.1.0", "wave:late-arrival": "1", "wave:second": "2", "bake": "600", "profile": "fast",
    "on_failure": "stop", "strategy": "canary", "at_a_time": "", "note": "OPS-9",
}  # fmt: skip


@pytest.fixture
def two(world: World, tmp_path: Path) -> World:
    """A second endpoint of the same model, in production."""
    target = target_create(
        actor=SYSTEM, name="there", kind="fake", environment="production", connection={"world": f"{tmp_path.name}-2"}
    )
    target_probe(target_id=target.pk)
    endpoint_create(
        actor=SYSTEM, name="second", target_id=target.pk, model_id=world.endpoint.model_id,
        version_id=world.versions["1.0.0"].pk,
    )  # fmt: skip
    return world


@pytest.fixture
def sequence(two: World) -> RolloutSequence:
    planned = sequence_plan(
        actor=SYSTEM, version_id=two.versions["1.1.0"].pk, strategy="canary", profile="fast",
        waves=[WaveAsked(("late-arrival",), None), WaveAsked(("second",))],
    )  # fmt: skip
    return sequence_start(actor=SYSTEM, planned=planned)


def plan_hash(html: str) -> str:
    found = re.search(r'name="plan_hash" value="([^"]+)"', html)
    assert found is not None, html
    return found.group(1)


def test_the_form_checks_every_endpoint_and_starts_exactly_what_was_shown(two: World, browser: Browser) -> None:
    alice = browser("alice")
    html = alice.get("/rollouts/sequences/new/", {**FORM, "check": "1"}).content.decode()
    assert "Wave 1" in html
    assert "then 10 min to look" in html
    assert "late-arrival: Calls made for" not in html, "what passed is only counted"
    answer = alice.post("/rollouts/sequences/new/", {**FORM, "plan_hash": plan_hash(html)})
    assert answer.status_code == 302, answer.content.decode()
    row = RolloutSequence.objects.get()
    assert answer.headers["Location"] == f"/rollouts/sequences/{row.pk}/"
    assert (row.note, row.plan["on_failure"], row.plan["waves"][0]["bake_seconds"]) == ("OPS-9", "stop", 600)


def test_another_plan_than_the_one_shown_is_not_started(two: World, browser: Browser) -> None:
    answer = browser("alice").post("/rollouts/sequences/new/", {**FORM, "plan_hash": "sha256:" + "0" * 64})
    assert answer.status_code == 409
    assert "no longer the plan that was shown" in answer.content.decode()
    assert not RolloutSequence.objects.exists()


@pytest.mark.parametrize(
    ("left_out", "said"),
    [
        ({"pick": ""}, "Choose the version"),
        ({"wave:late-arrival": "", "wave:second": ""}, "Choose a wave for at least one endpoint."),
        ({"bake": "tomorrow"}, "is no bake; choose from the list"),
        ({"pick": "late-arrival@7.7.7"}, "has no version 7.7.7"),
    ],
)
def test_what_is_missing_is_said_and_the_rest_is_kept(
    two: World, browser: Browser, left_out: dict[str, str], said: str
) -> None:
    answer = browser("alice").get("/rollouts/sequences/new/", {**FORM, **left_out, "check": "1"})
    assert answer.status_code == 422
    html = answer.content.decode()
    assert said in html
    assert 'name="note" value="OPS-9"' in html


def test_the_wizard_leads_here_when_there_are_several_endpoints(two: World, browser: Browser) -> None:
    html = browser("alice").get(
        "/rollouts/new/", {"model": "late-arrival", "version": "1.1.0", "step": "where"}
    ).content.decode()  # fmt: skip
    assert "/rollouts/sequences/new/?pick=late-arrival@1.1.0" in html


def test_the_page_shows_every_wave_with_its_members_and_their_rollouts(
    sequence: RolloutSequence, browser: Browser
) -> None:
    sequence_tick(sequence.pk)
    alice = browser("alice")
    html = alice.get(f"/rollouts/sequences/{sequence.pk}/").content.decode()
    rollout = Rollout.objects.get()
    assert 'role="alert"' not in html, "a fragment answered with a problem"
    assert f"/rollouts/{rollout.pk}/" in html
    assert "then a person continues" in html
    assert "not begun" in html
    assert f"rollout:{rollout.pk}" in html, "its frames refetch the page's parts"
    assert "wave 1 of a sequence" in alice.get(f"/rollouts/{rollout.pk}/").content.decode()
    assert "0 of 2 through" in alice.get("/rollouts/sequences/").content.decode()


def test_a_stopped_sequence_says_what_to_do(sequence: RolloutSequence, browser: Browser) -> None:
    sequence_tick(sequence.pk)
    Rollout.objects.update(phase="failed", reason="the process ends with exit code 3")
    sequence_tick(sequence.pk)
    html = browser("alice").get(f"/rollouts/sequences/{sequence.pk}/").content.decode()
    assert "late-arrival failed: the process ends with exit code 3" in html
    assert "Look why it failed, then try again what failed, or abort" in html
    assert "Try again what failed" in html
    assert "Bring back what is through as well" in html


def test_commands_carry_the_revision_that_was_seen(sequence: RolloutSequence, browser: Browser) -> None:
    alice, address = browser("alice"), f"/rollouts/sequences/{sequence.pk}/do"
    stale = alice.post(f"{address}/pause/", {"expected_revision": "77"})
    assert stale.status_code == 409
    assert "The sequence moved on while you looked" in stale.content.decode()
    assert alice.post(f"{address}/pause/", {"expected_revision": "x"}).status_code == 422
    assert alice.post(f"{address}/explode/", {"expected_revision": "1"}).status_code == 404
    paused = alice.post(f"{address}/pause/", {"expected_revision": "1"}, follow=True)
    assert "nothing more starts" in paused.content.decode()
    sequence.refresh_from_db()
    assert sequence.phase == "paused"
    alice.post(f"{address}/abort/", {"expected_revision": "1", "roll_back": "on", "reason": "no"})
    sequence.refresh_from_db()
    assert (sequence.phase, sequence.memo["is_whole"]) == ("rolling_back", True)


def test_a_viewer_sees_the_buttons_disabled_with_who_can(sequence: RolloutSequence, browser: Browser) -> None:
    html = browser("bob").get(f"/rollouts/sequences/{sequence.pk}/actions/").content.decode()
    assert html.count("disabled") == 2
    assert "needs the role" in html
    assert "<form" not in html


def test_a_right_at_one_endpoint_is_not_enough(sequence: RolloutSequence, browser: Browser) -> None:
    """Ed ships in development and looks into production: he sees it whole and moves nothing."""
    from apps.accounts.models import Membership

    ed = make_user("ed", frozenset({Role.ENGINEER}), environment="development")
    Membership.objects.create(user=ed, role=Role.VIEWER, environment="production")
    client = Client()
    client.force_login(ed)
    html = client.get(f"/rollouts/sequences/{sequence.pk}/actions/").content.decode()
    assert "second: You may look, not do this." in html
    answer = client.post(f"/rollouts/sequences/{sequence.pk}/do/pause/", {"expected_revision": "1"})
    assert answer.status_code == 403
    started = client.post("/rollouts/sequences/new/", {**FORM, "plan_hash": "x"})
    assert started.status_code == 422
    assert RolloutSequence.objects.count() == 1


def test_half_a_sequence_is_not_shown(sequence: RolloutSequence, browser: Browser) -> None:
    client = Client()
    client.force_login(make_user("dev", frozenset({Role.ENGINEER}), environment="development"))
    assert client.get(f"/rollouts/sequences/{sequence.pk}/").status_code == 404
    assert sequence.pk not in client.get("/rollouts/sequences/").content.decode()
    SequenceMember.objects.filter(endpoint__name="second").delete()
    assert client.get(f"/rollouts/sequences/{sequence.pk}/").status_code == 200


def fragments(pk: str) -> list[str]:
    return [f"/rollouts/sequences/{pk}/{part}/" for part in ("head", "log")] + ["/rollouts/sequences/_rows/"]


def test_a_fragment_that_did_not_change_is_not_sent_again(sequence: RolloutSequence, browser: Browser) -> None:
    from apps.kernel.clock import now, set_clock

    at, alice = now(), browser("alice")
    with set_clock(lambda: at):
        for path in fragments(sequence.pk):
            first: Any = alice.get(path)
            assert first.status_code == 200
            assert alice.get(path, headers={"If-None-Match": first.headers["ETag"]}).status_code == 304
