"""Settings: targets and freeze windows, over the same services as the API; who may not is told who can."""

from __future__ import annotations

from datetime import timedelta

import pytest

from apps.audit.models import Event
from apps.kernel.clock import now
from apps.targets.models import FreezeWindow, Target
from tests.api.world import World
from tests.web.conftest import Browser


def freeze(**over: str) -> dict[str, str]:
    ends = (now() + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M")
    return {"scope": "endpoint:late-arrival", "starts_at": "", "ends_at": ends, "reason": "stocktaking", **over}


def test_a_target_is_shown_with_its_driver_contact_abilities_and_endpoints(world: World, browser: Browser) -> None:
    html = browser("bob").get("/settings/targets/").content.decode()
    assert "fake: a pretended target" in html
    assert "data-ago" in html
    assert "same caller, same variant" in html
    assert 'href="/endpoints/late-arrival/"' in html


def test_an_admin_probes_a_target(world: World, browser: Browser) -> None:
    Target.objects.update(probe_error="It was away.")
    ada = browser("ada")
    assert "does not answer" in ada.get("/settings/targets/").content.decode()
    assert ada.post("/settings/targets/here/probe").status_code == 302
    html = ada.get("/settings/targets/").content.decode()
    assert "here answered" in html
    assert "does not answer" not in html


def test_a_target_that_does_not_answer_says_so_and_keeps_what_was_known(world: World, browser: Browser) -> None:
    Target.objects.update(kind="local", connection={"url": "http://127.0.0.1:1", "token_file": "/nowhere"})
    ada = browser("ada")
    ada.post("/settings/targets/here/probe")
    html = ada.get("/settings/targets/").content.decode()
    assert "did not answer" in html
    assert "same caller, same variant" in html


@pytest.mark.parametrize("path", ["/settings/targets/", "/settings/freezes/"])
def test_who_may_look_only_finds_the_buttons_disabled_with_the_reason(
    world: World, browser: Browser, path: str
) -> None:
    html = browser("bob").get(path).content.decode()
    assert "It needs the role admin; an admin can give it." in html
    assert 'disabled aria-describedby="why"' in html


@pytest.mark.parametrize("path", ["/settings/targets/here/probe", "/settings/freezes/", "/settings/freezes/x/lift"])
def test_an_engineer_changes_no_settings(world: World, browser: Browser, path: str) -> None:
    assert browser("alice").post(path, freeze()).status_code == 403
    assert not FreezeWindow.objects.exists()


def test_a_freeze_is_set_listed_and_lifted_with_the_reasons_in_the_audit_trail(world: World, browser: Browser) -> None:
    ada = browser("ada")
    assert ada.post("/settings/freezes/", freeze()).status_code == 302
    html = ada.get("/settings/freezes/").content.decode()
    assert "frozen now" in html
    assert "endpoint late-arrival" in html
    assert "stocktaking" in html
    assert "set by ada" in html
    window = FreezeWindow.objects.get()
    assert ada.post(f"/settings/freezes/{window.pk}/lift", {"reason": " "}).status_code == 422
    assert FreezeWindow.objects.exists()
    assert ada.post(f"/settings/freezes/{window.pk}/lift", {"reason": "counted"}).status_code == 302
    assert not FreezeWindow.objects.exists()
    assert list(Event.objects.filter(verb__startswith="freeze.").values_list("verb", flat=True)) == [
        "freeze.created",
        "freeze.removed",
    ]


@pytest.mark.parametrize(
    ("over", "words"),
    [
        ({"scope": "environment:production"}, "every endpoint of production"),
        ({"scope": "everything"}, "<b>everything</b>"),
    ],
)
def test_a_freeze_holds_for_an_environment_or_for_everything(
    world: World, browser: Browser, over: dict[str, str], words: str
) -> None:
    ada = browser("ada")
    ada.post("/settings/freezes/", freeze(**over))
    assert words in ada.get("/settings/freezes/").content.decode()


@pytest.mark.parametrize(
    ("over", "field", "words"),
    [
        ({"ends_at": ""}, "ends_at", "Say when it ends"),
        ({"ends_at": "tomorrow"}, "ends_at", "&#x27;tomorrow&#x27; is no time"),
        ({"ends_at": "2020-01-01T10:00"}, "ends_at", "must end after it starts"),
        ({"starts_at": "2020-01-01T10:00", "ends_at": "2020-01-02T10:00"}, "ends_at", "would freeze nothing"),
        ({"reason": ""}, "reason", "Say why"),
        ({"reason": "x" * 301}, "reason", "at most 300 characters"),
        ({"scope": "galaxy:all"}, "scope", "from the list"),
        ({"scope": "environment:moon"}, "scope", "&#x27;moon&#x27; is none of"),
        ({"scope": "endpoint:nope"}, "scope", "no endpoint"),
    ],
)
def test_a_freeze_that_cannot_be_is_refused_beside_its_field_and_keeps_what_was_typed(
    world: World, browser: Browser, over: dict[str, str], field: str, words: str
) -> None:
    answer = browser("ada").post("/settings/freezes/", freeze(**over))
    html = answer.content.decode()
    assert answer.status_code == 422
    assert words in html
    assert f'aria-describedby="fault-{field}"' in html
    assert f'value="{freeze(**over)["reason"]}"' in html
    assert not FreezeWindow.objects.exists()
