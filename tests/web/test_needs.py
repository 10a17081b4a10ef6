"""The top of the fleet: the first line is what is wrong now, for this person, and where to press."""

from __future__ import annotations

import re
from datetime import timedelta
from html import unescape

import pytest
from django.db import transaction

from apps.alerts.domain.watches import FAULTS
from apps.alerts.models import Incident, Watch
from apps.alerts.services.incidents import Observation, State, incidents_observe
from apps.alerts.services.sources import sources_look
from apps.alerts.services.watches import watch_note
from apps.kernel.clock import now
from apps.kernel.live import redis_client
from apps.rollouts.models import Rollout
from apps.targets.models import Endpoint
from controlplane.alert_keys import RolloutFault, answer_key, rollout_key
from tests.api.world import World
from tests.web.conftest import Browser


def fire(world: World, key: str = "slo:1", severity: str = "page", **other: object) -> Incident:
    facts: dict[str, object] = {
        "key": key, "source": "slo", "team_id": None, "environment": "", "subject_type": "endpoint",
        "subject_id": world.endpoint.pk, "subject_name": "late-arrival", "severity": severity,
        "title": f"late-arrival: availability burns ({key})", "summary": "2.1 % of 8,412 requests failed in 1 h.",
        "states": (State("fast", severity, True, "1 h at 20.0x; limit 14.4x"),),
    }  # fmt: skip
    with transaction.atomic():
        incidents_observe([Observation(**{**facts, **other})])  # type: ignore[arg-type]
    return Incident.objects.get(key=key)


def needs(html: str) -> list[str]:
    """The lines of the strip, as text."""
    strip = html.split('<section class="needs', 1)[-1].split("</section>", 1)[0] if "Needs you" in html else ""
    return [text(line) for line in strip.split("<li>")[1:]]


def quiet(html: str) -> str:
    return text(html.split('class="quiet-line">', 1)[1].split("</p>", 1)[0])


def text(html: str) -> str:
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", html)).split())


def test_a_page_that_fires_is_the_first_line_and_is_acknowledged_there(world: World, browser: Browser) -> None:
    olga, alert = browser("olga"), fire(world)
    html = olga.get("/_fleet/").content.decode()
    first = needs(html)[0]
    assert "page, firing" in first
    assert "availability burns" in first
    assert "2.1 % of 8,412 requests failed" in first
    assert "Nothing waits" not in html
    assert f'href="/alerts/{alert.pk}/"' in html
    press = f"/alerts/{alert.pk}/do/acknowledge/"
    assert f'form="acknowledge" formaction="{press}" name="expected_revision" value="{alert.revision}"' in html
    answer = olga.post(press, {"back": "fleet", "expected_revision": alert.revision})
    assert (answer.status_code, answer.headers["Location"]) == (302, "/")
    html = olga.get("/").content.decode()
    assert "You look after it now: late-arrival: availability burns" in html
    assert "Needs you" not in html
    assert quiet(html) == "◐ Nothing waits for you. 1 alert is open: 1 taken on by olga. See the alerts"


def test_an_alert_that_changed_since_it_was_seen_is_not_taken_on(world: World, browser: Browser) -> None:
    olga, alert = browser("olga"), fire(world)
    seen = {"back": "fleet", "expected_revision": alert.revision + 1}
    assert olga.post(f"/alerts/{alert.pk}/do/acknowledge/", seen).status_code == 409
    assert Incident.objects.get(pk=alert.pk).state == "firing"


def test_whoever_may_not_acknowledge_is_told_that_it_fires_and_never_that_nothing_waits(
    world: World, browser: Browser
) -> None:
    fire(world)
    fire(world, "slo:2", "ticket")
    html = browser("bob").get("/_fleet/").content.decode()
    assert "Nothing waits" not in html
    assert "do/acknowledge" not in html
    assert quiet(html) == "■ 2 alerts fire, 1 of them a page. Somebody else has to acknowledge. See the alerts"


def test_nothing_waits_is_said_only_where_no_alert_is_open(world: World, browser: Browser) -> None:
    html = browser("olga").get("/_fleet/").content.decode()
    assert quiet(html) == "● Nothing waits for you, and no alert is open."


def test_an_alert_that_is_of_no_endpoint_waits_as_well(world: World, browser: Browser) -> None:
    fire(world, "house:1", subject_type="pilothouse", subject_id="", subject_name="", title="Pilothouse: no beat")
    assert "Pilothouse: no beat" in needs(browser("olga").get("/_fleet/").content.decode())[0]


def test_of_many_alerts_the_worst_are_shown_and_the_others_are_counted(world: World, browser: Browser) -> None:
    for number in range(8):
        fire(world, f"slo:{number}", "page" if number < 7 else "ticket")
    lines = needs(browser("olga").get("/_fleet/").content.decode())
    assert [line for line in lines if "2 more pages" in line and "nobody looks after them" in line] == [lines[5]]
    assert "ticket, firing" in lines[6]
    assert len(lines) == 7


def test_what_is_silenced_waits_for_nobody(world: World, browser: Browser) -> None:
    alert = fire(world)
    Incident.objects.filter(pk=alert.pk).update(silenced_until=now() + timedelta(hours=1))
    html = browser("olga").get("/_fleet/").content.decode()
    assert quiet(html) == "◐ Nothing waits for you. 1 alert is open: 1 silenced. See the alerts"


def test_what_callers_meet_now_stands_above_what_may_wait(world: World, browser: Browser) -> None:
    Endpoint.objects.filter(pk=world.endpoint.pk).update(apply_error="no such image.")
    fire(world, "slo:1", "ticket")
    fire(world, "slo:2", "page")
    lines = needs(browser("olga").get("/_fleet/").content.decode())
    assert [line.split(" late")[0] for line in lines] == ["■ plan refused", "■ page, firing", "▲ ticket, firing"]


def test_a_target_that_does_not_answer_is_not_passed_over(world: World, browser: Browser) -> None:
    Endpoint.objects.filter(pk=world.endpoint.pk).update(observe_error="connection refused.")
    assert "The target does not answer" in needs(browser("olga").get("/_fleet/").content.decode())[0]


def test_an_endpoint_with_a_page_stands_above_one_that_only_starts(world: World, browser: Browser) -> None:
    world.with_second_endpoint()
    olga = browser("olga")

    def order() -> list[str]:
        return re.findall(r'<tr data-href="/endpoints/([^/]+)/"', olga.get("/_fleet/").content.decode())

    fire(world, "slo:2", subject_name="second", subject_id=Endpoint.objects.get(name="second").pk)
    assert order() == ["second", "late-arrival"]


@pytest.mark.parametrize("who", ["olga", "alice", "bob"])
def test_every_link_of_the_strip_says_what_it_is_about(world: World, browser: Browser, who: str) -> None:
    fire(world)
    fire(world, "slo:2")
    html = browser(who).get("/_fleet/").content.decode()
    labels = re.findall(r'<(?:a|button)[^>]*aria-label="([^"]+)"', html)
    assert len(set(labels)) == len(labels)


def test_a_list_of_firing_alerts_that_is_empty_does_not_say_that_nothing_is_wrong(
    world: World, browser: Browser
) -> None:
    olga, alert = browser("olga"), fire(world)
    olga.post(f"/alerts/{alert.pk}/do/acknowledge/", {"expected_revision": alert.revision})
    said = text(olga.get("/alerts/_rows/?state=firing").content.decode())
    assert said == "No alert is firing, and 1 is open. Show what is open ."


def test_a_fault_stands_once_with_its_own_way_and_not_once_more_as_its_alert(world: World, browser: Browser) -> None:
    alice, rollout = browser("alice"), world.start()
    alice.post(
        f"/rollouts/{rollout.pk}/do/abort/", {"expected_revision": rollout.revision, "expected_step": rollout.step}
    )
    sources_look()
    alert = Incident.objects.get(source="rollouts")
    assert alert.state == "firing"
    html = alice.get("/_fleet/").content.decode()
    assert len(needs(html)) == 1
    assert "1.1.0 on late-arrival" in needs(html)[0]
    assert f"/rollouts/{rollout.pk}/do/acknowledge/" in html
    assert f"/alerts/{alert.pk}/do/acknowledge/" not in html
    assert "Nothing waits" not in html


@pytest.mark.parametrize(
    ("changed", "fault"),
    [
        ({"phase": "paused"}, RolloutFault.WAITS),
        ({"phase": "waiting"}, RolloutFault.WAITS),
        ({"phase": "baking", "look_error": "no such gate."}, RolloutFault.ENGINE),
    ],
)
def test_a_rollout_that_waits_or_fails_its_engine_stands_once_with_the_way_to_take_its_alert_on(
    world: World, browser: Browser, changed: dict[str, str], fault: RolloutFault
) -> None:
    rollout = world.start()
    Rollout.objects.filter(pk=rollout.pk).update(**changed)
    sources_look()
    alert = Incident.objects.get(source="rollouts")
    assert alert.key == rollout_key(rollout.pk, fault)
    html = browser("olga").get("/_fleet/").content.decode()
    (line,) = needs(html)
    assert "1.1.0 on late-arrival" in line
    assert f"/alerts/{alert.pk}/do/acknowledge/" in html


def test_a_target_that_does_not_answer_stands_once_and_says_what_its_alert_knows(
    world: World, browser: Browser
) -> None:
    Endpoint.objects.filter(pk=world.endpoint.pk).update(observe_error="The node agent did not answer in time.")
    watch_note(FAULTS)
    Watch.objects.filter(name=FAULTS).update(since=now() - timedelta(hours=1))
    redis_client().delete(f"observed:{world.endpoint.target_id}")
    sources_look()
    alert = Incident.objects.get(source="targets")
    assert alert.key == answer_key(world.endpoint.pk)
    html = browser("olga").get("/_fleet/").content.decode()
    (line,) = needs(html)
    assert "The target does not answer: The node agent did not answer in time. No telemetry ever came" in line
    assert f"/alerts/{alert.pk}/do/acknowledge/" in html


def test_an_endpoint_that_does_not_serve_has_the_way_to_take_its_alert_on(world: World, browser: Browser) -> None:
    Endpoint.objects.filter(pk=world.endpoint.pk).update(apply_error="no such image.")
    sources_look()
    alert = Incident.objects.get(source="targets")
    olga = browser("olga")
    html = olga.get("/_fleet/").content.decode()
    assert [line.split(" : ")[0] for line in needs(html)] == ["■ plan refused late-arrival"]
    assert f'formaction="/alerts/{alert.pk}/do/acknowledge/" name="expected_revision"' in html
    olga.post(f"/alerts/{alert.pk}/do/acknowledge/", {"expected_revision": alert.revision})
    html = olga.get("/_fleet/").content.decode()
    assert "plan refused" in needs(html)[0], "it is still wrong"
    assert "do/acknowledge" not in html
    assert quiet(html) == "◐ 1 alert is open: 1 taken on by olga. See the alerts"
