"""Changing a target by its page: nothing is lost, what differs is shown and asked for, secrets never come back."""

from __future__ import annotations

import html as markup
import re
from pathlib import Path
from typing import Any

import pytest
from django.db import connection as database
from django.test.utils import CaptureQueriesContext

from apps.audit.selectors import events_of
from apps.rollouts.models import Rollout
from apps.targets.models import Endpoint, Target
from apps.targets.services.connect import target_create
from apps.targets.services.credentials import credentials_opened
from tests.api.world import World
from tests.fakes.targets import ALICE
from tests.targets.kubernetes.fake_api import FakeCluster
from tests.web.conftest import Browser
from tests.web.test_connect import kubeconfig

PAGE = "/settings/targets/prod/edit/"
CONNECTION: dict[str, Any] = {
    "auth": {"mode": "token", "server": "https://127.0.0.1:1"},
    "namespace": "models",
    "route": {"kind": "gateway", "gateway": "gateways/public", "hosts": ["a.example.com"], "section": "https"},
    "profile": {"image": "registry.example.com/{model}:{version}", "gpus": 1, "node_selector": {"pool": "gpu"}},
    "conflicts": "heal",
}


@pytest.fixture
def prod(world: World) -> Target:
    return target_create(
        actor=ALICE, name="prod", kind="kubernetes", environment="staging", connection=CONNECTION,
        credentials={"token": "first-secret"},
    )  # fmt: skip


def fields_of(page: str) -> dict[str, str]:
    """What a browser would send for the form as it stands."""
    form = page[page.index('name="csrf') if 'name="csrf' in page else 0 :]
    found = {
        markup.unescape(name): markup.unescape(value)
        for name, value in re.findall(r'<input type="(?:text|hidden)"[^>]*? name="([^"]+)"[^>]*? value="([^"]*)"', form)
    }
    found |= dict(re.findall(r'<input type="radio" name="([^"]+)" value="([^"]+)" checked', form))
    found |= {
        name: markup.unescape(text)
        for name, text in re.findall(r'<textarea[^>]*? name="([^"]+)"[^>]*>([^<]*)</textarea>', form)
    }
    for name, options in re.findall(r'<select[^>]*? name="([^"]+)"[^>]*>(.*?)</select>', form, re.DOTALL):
        found[name] = re.findall(r'value="([^"]*)" selected', options)[0]
    found.pop("csrfmiddlewaretoken", None)
    return found


def open_form(ada: Any) -> dict[str, str]:
    return fields_of(ada.get(PAGE).content.decode())


def test_the_form_sent_back_untouched_changes_nothing(
    prod: Target,
    browser: Browser,
    cluster: FakeCluster,
) -> None:
    ada = browser("ada")
    typed = open_form(ada)
    assert typed["rest"].replace(" ", "").replace("\n", "") == '{"conflicts":"heal","route":{"section":"https"}}'
    assert "first-secret" not in str(typed)
    html = ada.post(PAGE, typed).content.decode()
    assert "Nothing: it stands as you typed it." in html
    assert "Save it" not in html


def test_what_changes_is_shown_and_asked_for_and_then_saved_and_audited(
    prod: Target,
    browser: Browser,
    cluster: FakeCluster,
) -> None:
    ada = browser("ada")
    typed = open_form(ada) | {"route.hosts": "a.example.com, b.example.com", "no_traffic_policy": "probe"}
    html = ada.post(PAGE, typed).content.decode()
    assert "It was asked with these settings and answers" in html
    assert "route.hosts" in html
    assert "[&quot;a.example.com&quot;,&quot;b.example.com&quot;]" in html
    prod.refresh_from_db()
    assert (prod.connection, prod.revision) == (CONNECTION, 1), "looking stores nothing"
    answer = ada.post(PAGE, fields_of(html) | {"do": "save"})
    assert answer.status_code == 302
    prod.refresh_from_db()
    assert prod.connection == {
        **CONNECTION,
        "route": {**CONNECTION["route"], "hosts": ["a.example.com", "b.example.com"]},
    }
    assert (prod.no_traffic_policy, prod.revision) == ("probe", 2)
    detail = events_of("target", prod.pk)[0].detail
    assert detail["before"]["connection.route.hosts"] == ["a.example.com"]
    assert detail["after"]["no_traffic_policy"] == "probe"


def test_a_token_that_is_typed_goes_along_sealed_and_is_stored_but_never_shown(
    prod: Target,
    browser: Browser,
    cluster: FakeCluster,
) -> None:
    ada = browser("ada")
    answer = ada.post(PAGE, open_form(ada) | {"credentials.token": "second-secret"})
    html = answer.content.decode()
    assert "second-secret" not in html
    assert "replaced by what you typed" in html
    assert "no-store" in answer["Cache-Control"]
    sent = fields_of(html)
    assert sent["sealed"].startswith("v1.")
    back = ada.post(PAGE, sent | {"do": "back"}).content.decode()
    assert "second-secret" not in back
    assert ada.post(PAGE, sent | {"do": "save", "sealed": sent["sealed"][:-4] + "AAAA"}).status_code == 422
    assert ada.post(PAGE, sent | {"do": "save"}).status_code == 302
    prod.refresh_from_db()
    assert credentials_opened(prod.pk, prod.credentials) == {"token": "second-secret"}
    assert "second-secret" not in str([event.detail for event in events_of("target", prod.pk)])
    assert ada.post(PAGE, sent | {"do": "save"}).status_code in {409, 422}, "the same page sent twice"


def test_a_kubeconfig_takes_the_place_of_a_token(
    prod: Target,
    browser: Browser,
    cluster: FakeCluster,
    tmp_path: Path,
) -> None:
    ada = browser("ada")
    text = Path(kubeconfig(tmp_path)).read_text()
    html = ada.post(PAGE, open_form(ada) | {"auth.mode": "kubeconfig", "credentials.kubeconfig": text}).content.decode()
    assert "forgotten" in html
    assert ada.post(PAGE, fields_of(html) | {"do": "save"}).status_code == 302
    prod.refresh_from_db()
    assert prod.connection["auth"] == {"mode": "kubeconfig"}
    assert set(credentials_opened(prod.pk, prod.credentials)) == {"kubeconfig"}


def test_a_target_that_does_not_answer_is_saved_only_with_a_tick(
    prod: Target, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("apps.targets.drivers.kubernetes.driver.PROBE_SECONDS", 0.3)
    ada = browser("ada")
    html = ada.post(PAGE, open_form(ada) | {"route.address": "https://callers.example"}).content.decode()
    assert "does not answer" in html
    sent = fields_of(html)
    refused = ada.post(PAGE, sent | {"do": "save"})
    assert (refused.status_code, "Nothing was changed" in refused.content.decode()) == (422, True)
    assert ada.post(PAGE, sent | {"do": "save", "even_if_silent": "on"}).status_code == 302


def test_faults_stand_beside_their_fields_and_what_was_typed_stays(prod: Target, browser: Browser) -> None:
    ada = browser("ada")
    wrong = {"namespace": "No Name", "profile.memory": "8 gigs", "more": "{", "credentials.token": "third-secret"}
    answer = ada.post(PAGE, open_form(ada) | wrong)
    html = answer.content.decode()
    assert answer.status_code == 422
    for field in ("namespace", "profile-memory", "more"):
        assert f'id="fault-{field}"' in html
    assert 'value="8 gigs"' in html
    assert "third-secret" not in html
    assert "Enter it again" in html


def test_what_endpoints_stand_on_is_refused_naming_them(
    world: World,
    prod: Target,
    browser: Browser,
    cluster: FakeCluster,
) -> None:
    ada, rollout = browser("ada"), world.start()
    Rollout.objects.update(phase="aborted")
    Endpoint.objects.filter(pk=world.endpoint.pk).update(target=prod)
    answer = ada.post(PAGE, open_form(ada) | {"namespace": "other"})
    assert (answer.status_code, "late-arrival" in answer.content.decode()) == (409, True)
    html = ada.post(PAGE, open_form(ada) | {"profile.memory": "2Gi"}).content.decode()
    assert "late-arrival: the pod of 1.0.0 is replaced: a new one starts beside it" in html
    Rollout.objects.update(phase="baking")
    answer = ada.post(PAGE, fields_of(html) | {"do": "save"})
    assert (answer.status_code, rollout.pk in answer.content.decode()) == (409, True)
    prod.refresh_from_db()
    assert prod.connection == CONNECTION


def test_who_may_look_only_sees_the_form_and_cannot_send_it(prod: Target, browser: Browser) -> None:
    bob = browser("bob")
    html = bob.get(PAGE).content.decode()
    assert 'disabled aria-describedby="why"' in html
    assert bob.post(PAGE, fields_of(html)).status_code == 403
    assert "/settings/targets/prod/edit/" in browser("ada").get("/settings/targets/").content.decode()


def test_a_page_without_its_revision_is_refused(prod: Target, browser: Browser) -> None:
    ada = browser("ada")
    assert ada.post(PAGE, open_form(ada) | {"revision": "x"}).status_code == 422
    assert ada.get("/settings/targets/here/edit/").status_code == 422, "a kind without a form"


def test_the_form_costs_few_queries(prod: Target, browser: Browser) -> None:
    ada = browser("ada")
    with CaptureQueriesContext(database) as queries:
        assert ada.get(PAGE).status_code == 200
    assert len(queries) <= 12
