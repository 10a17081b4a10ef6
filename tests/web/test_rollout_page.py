"""The rollout's page: buttons with their reasons, commands with what was seen, conflicts that say what changed."""

from __future__ import annotations

import re
from datetime import timedelta

import orjson

from apps.kernel.clock import now
from apps.rollouts.models import Rollout
from tests.api.world import World
from tests.web.conftest import Browser, report


def seen(rollout: object, **other: object) -> dict[str, object]:
    return {"expected_revision": rollout.revision, "expected_step": rollout.step, **other}  # type: ignore[attr-defined]


def test_a_viewer_sees_the_buttons_disabled_with_who_can(world: World, browser: Browser) -> None:
    rollout = world.start()
    html = browser("bob").get(f"/rollouts/{rollout.pk}/actions/").content.decode()
    assert html.count("disabled") == 4
    assert "It needs the role operator or engineer or approver" in html
    assert "Promote 1.1.0: You may look, not do this. It needs the role engineer" in html
    assert "<form" not in html


def test_a_viewer_who_posts_anyway_is_refused(world: World, browser: Browser) -> None:
    rollout = world.start()
    answer = browser("bob").post(f"/rollouts/{rollout.pk}/do/abort/", seen(rollout))
    assert answer.status_code == 403
    rollout.refresh_from_db()
    assert rollout.phase == "pending"


def test_a_button_that_the_phase_forbids_says_why(world: World, browser: Browser) -> None:
    rollout = world.start()
    html = browser("alice").get(f"/rollouts/{rollout.pk}/actions/").content.decode()
    assert "Pause: Nothing to pause while pending." in html


def test_an_operator_aborts_with_one_form(world: World, browser: Browser) -> None:
    rollout = world.start()
    answer = browser("olga").post(f"/rollouts/{rollout.pk}/do/abort/", seen(rollout, reason="wrong day"), follow=True)
    assert answer.status_code == 200
    assert "was aborted" in answer.content.decode()
    rollout.refresh_from_db()
    assert rollout.phase == "aborted"


def test_an_ended_rollout_can_be_tried_again(world: World, browser: Browser) -> None:
    rollout = world.start()
    alice = browser("alice")
    alice.post(f"/rollouts/{rollout.pk}/do/abort/", seen(rollout))
    rollout.refresh_from_db()
    answer = alice.post(f"/rollouts/{rollout.pk}/do/retry/", seen(rollout))
    assert answer.status_code == 302
    assert answer.headers["Location"] != f"/rollouts/{rollout.pk}/"
    assert "attempt 2" in alice.get(answer.headers["Location"]).content.decode()


def test_a_stale_click_changes_nothing_and_says_what_moved_on(world: World, browser: Browser) -> None:
    rollout = world.start()
    answer = browser("alice").post(
        f"/rollouts/{rollout.pk}/do/pause/", {"expected_revision": rollout.revision - 1, "expected_step": 3}
    )
    html = answer.content.decode()
    assert answer.status_code == 409
    assert "The rollout moved on while you looked" in html
    assert "You saw step 4 of" in html
    assert "now it is the preparation" in html
    rollout.refresh_from_db()
    assert rollout.phase == "pending"


def test_promoting_asks_for_a_reason(world: World, browser: Browser) -> None:
    rollout = world.start()
    answer = browser("alice").post(f"/rollouts/{rollout.pk}/do/promote/", seen(rollout, reason="  "))
    assert answer.status_code == 422
    assert "Say why" in answer.content.decode()


def test_a_click_without_what_it_saw_is_refused(world: World, browser: Browser) -> None:
    rollout = world.start()
    answer = browser("alice").post(f"/rollouts/{rollout.pk}/do/pause/", {"expected_revision": "x"})
    assert answer.status_code == 422


def test_a_command_that_does_not_exist_is_not_found(world: World, browser: Browser) -> None:
    rollout = world.start()
    assert browser("alice").post(f"/rollouts/{rollout.pk}/do/explode/", seen(rollout)).status_code == 404


def test_a_command_is_never_a_get(world: World, browser: Browser) -> None:
    rollout = world.start()
    assert browser("alice").get(f"/rollouts/{rollout.pk}/do/abort/").status_code == 405


def test_after_it_went_back_the_first_thing_to_do_is_not_the_same_again(world: World, browser: Browser) -> None:
    rollout, alice = world.start(), browser("alice")
    alice.post(f"/rollouts/{rollout.pk}/do/abort/", seen(rollout))
    html = alice.get(f"/rollouts/{rollout.pk}/actions/").content.decode()
    assert '<button type="submit" class="primary">Acknowledge</button>' in html
    assert '<button type="submit" class="">Retry with the same plan</button>' in html
    assert "Plan another version" in html
    alice.post(f"/rollouts/{rollout.pk}/do/acknowledge/", {})
    html = alice.get(f"/rollouts/{rollout.pk}/actions/").content.decode()
    assert "Acknowledge<" not in html
    assert '<a class="button primary" href="/rollouts/new/?model=late-arrival&amp;endpoint=late-arrival">' in html
    assert "Acknowledged by alice" in alice.get(f"/rollouts/{rollout.pk}/head/").content.decode()


def test_the_fleet_lists_what_went_back_until_somebody_acknowledges_it_there(world: World, browser: Browser) -> None:
    rollout, alice = world.start(), browser("alice")
    alice.post(f"/rollouts/{rollout.pk}/do/abort/", seen(rollout))
    button = f'form="acknowledge" formaction="/rollouts/{rollout.pk}/do/acknowledge/"'
    fragment = alice.get("/_fleet/").content.decode()
    assert button in fragment
    assert "csrf" not in fragment  # a new token at every refetch would make the fragment look new
    assert '<form method="post" id="acknowledge"><input type="hidden" name="csrf' in alice.get("/").content.decode()
    seen_by_bob = browser("bob").get("/").content.decode()
    assert "1.1.0 on late-arrival" in seen_by_bob
    assert button not in seen_by_bob
    answer = alice.post(f"/rollouts/{rollout.pk}/do/acknowledge/", {"back": "fleet"})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    assert "Needs you" not in alice.get("/").content.decode()


def times_of(html: str) -> list[str]:
    """Every time on an axis of the page's charts."""
    found = []
    for text in re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL):
        for trace in orjson.loads(text).get("data", []):
            found += [str(at) for at in trace.get("x", []) if at is not None]
    return sorted(found)


def test_the_charts_of_an_ended_rollout_stop_at_its_end_and_show_nobody_who_came_later(
    world: World, browser: Browser
) -> None:
    rollout = world.start()
    began = now() - timedelta(hours=2)
    ended = began + timedelta(minutes=20)
    Rollout.objects.filter(pk=rollout.pk).update(phase="rolled_back", created_at=began, finished_at=ended)
    for at, key in ((began, "v1-1-0"), (ended + timedelta(seconds=50), "v3-0-0"), (now(), "v1-0-0")):
        report(key, seconds=[0.02] * 50, at=at.timestamp())
    html = browser("alice").get(f"/rollouts/{rollout.pk}/charts/").content.decode()
    assert "3.0.0" not in html
    times = times_of(html)
    assert (began - timedelta(minutes=2)).strftime("%Y-%m-%d %H:%M") <= times[0]
    assert times[-1] <= (ended + timedelta(minutes=2)).strftime("%Y-%m-%d %H:%M:59")


def test_an_ended_rollout_says_what_was_and_not_what_is(world: World, browser: Browser) -> None:
    rollout, alice = world.start(), browser("alice")
    alice.post(f"/rollouts/{rollout.pk}/do/abort/", seen(rollout))
    Rollout.objects.filter(pk=rollout.pk).update(step=3)
    html = alice.get(f"/rollouts/{rollout.pk}/head/").content.decode()
    assert "was ready and warm" in html
    assert "1.0.0 got all traffic again" in html
    assert "so far" not in html


def test_what_goes_back_is_not_said_to_have_got_no_request_yet(world: World, browser: Browser) -> None:
    rollout, olga = world.start(), browser("olga")
    Rollout.objects.filter(pk=rollout.pk).update(phase="preparing")
    html = olga.get("/rollouts/at/late-arrival/actions/").content.decode()
    assert "1.1.0 stays without a share of the traffic; guardrails go on and may still roll back." in html
    Rollout.objects.filter(pk=rollout.pk).update(phase="rolling_back", revision=rollout.revision + 1)
    html = olga.get("/rollouts/at/late-arrival/actions/").content.decode()
    assert "stays without" not in html
    assert "within seconds" not in html
    going = "It goes back already: 1.0.0 gets all traffic; 1.1.0 leaves after its last request."
    assert html.count(going) == 2, "of Pause and of Roll back"
