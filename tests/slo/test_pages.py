"""The pages of objectives: how they stand, the form with its replay, the rules for Prometheus."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client

from apps.slo.domain.objective import DEFAULTS
from apps.slo.models import Objective
from apps.slo.web.typed import Typed
from tests.cast import make_user
from tests.slo.watchtower import Tower

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True, scope="module")
def _static_folder() -> None:
    Path(settings.STATIC_ROOT).mkdir(parents=True, exist_ok=True)


@pytest.fixture
def alice(tower: Tower) -> Client:
    client = Client()
    client.force_login(make_user("alice"))
    return client


def form(**changes: str) -> dict[str, str]:
    return {**Typed.of(DEFAULTS[2]).values, "name": "answers", **changes}


@pytest.mark.parametrize("spec", DEFAULTS)
def test_what_the_form_shows_of_an_objective_is_that_objective_again(spec: object) -> None:
    from apps.slo.domain.objective import ObjectiveSpec, objective_parse

    assert isinstance(spec, ObjectiveSpec)
    assert objective_parse(Typed.of(spec).given()) == spec


def test_tiers_of_ones_own_are_lines_and_come_back_as_they_were_typed() -> None:
    from apps.slo.domain.objective import objective_parse

    lines = "fast: page 30m/5m 1.5 %\nweek: ticket 3d/6h 20 %"
    spec = objective_parse(Typed({**form(profile="custom"), "tiers": lines}).given())
    assert Typed.of(spec)["tiers"] == lines
    assert [tier.budget_bp for tier in spec.policy.tiers] == [150, 2000]


def test_the_page_shows_time_and_budget_of_every_objective(tower: Tower, alice: Client) -> None:
    tower.history(60, good=100)
    tower.minutes(6, good=0, timeout=100)
    text = alice.get(f"/endpoints/{tower.name}/objectives/").content.decode()
    assert "burning" in text
    assert "availability" in text
    assert "gone" in text
    assert "page fast" in text
    assert 'role="alert"' not in text


def test_an_endpoint_without_requests_says_no_data_and_one_without_objectives_what_to_do(
    tower: Tower, alice: Client
) -> None:
    assert "promises nothing yet" in alice.get(f"/endpoints/{tower.name}/objectives/").content.decode()
    tower.tick()
    text = alice.get(f"/endpoints/{tower.name}/objectives/").content.decode()
    assert "no data" in text
    assert "100 %" not in text.replace("100 %</b>", "100 %")


def test_the_panel_replays_what_is_typed_and_keeps_nothing(tower: Tower, alice: Client) -> None:
    tower.history(90, good=100)
    tower.minutes(10, good=0, timeout=100)
    tower.history(20, good=100)
    before = Objective.objects.count()
    text = alice.post(f"/endpoints/{tower.name}/objectives/replay/", form()).content.decode()
    assert "would have fired" in text
    assert "told 5 min after it began, off 4 min after recovery" in text
    missing = alice.post(f"/endpoints/{tower.name}/objectives/replay/", form(target="90")).content.decode()
    assert "can never fire" in missing
    assert Objective.objects.count() == before


def test_a_form_is_kept_and_one_that_is_wrong_comes_back_with_its_faults(tower: Tower, alice: Client) -> None:
    wrong = alice.post(f"/endpoints/{tower.name}/objectives/new/", form(target="much", period_days="1.5"))
    assert wrong.status_code == 422
    text = wrong.content.decode()
    assert "&#x27;much&#x27; is no number" in text
    assert "1.5 is no whole number" in text
    kept = alice.post(f"/endpoints/{tower.name}/objectives/new/", form(), follow=True)
    assert "answers is promised from now on" in kept.content.decode()
    row = Objective.objects.get(name="answers")
    assert (row.target_ppm, row.is_enabled) == (995_000, True)


def test_a_change_over_a_stale_page_is_refused_and_nothing_is_lost(tower: Tower, alice: Client) -> None:
    tower.tick()
    row = tower.objective()
    page = f"/endpoints/-/objectives/{row.pk}/"
    assert alice.get(page).status_code == 200
    first = alice.post(page, form(name="availability", target="99.9", expected_revision="1"), follow=True)
    assert "availability is changed" in first.content.decode()
    second = alice.post(page, form(name="availability", target="99", expected_revision="1"))
    assert second.status_code == 409
    assert "changed by somebody else" in second.content.decode()
    assert 'value="99"' in second.content.decode()
    assert Objective.objects.get(pk=row.pk).target_ppm == 999_000
    gone = alice.post(f"{page}delete/", {"expected_revision": "2"}, follow=True)
    assert "promised no longer" in gone.content.decode()
    assert not Objective.objects.filter(pk=row.pk).exists()


def test_who_may_only_look_sees_the_page_and_no_way_to_change_it(tower: Tower, alice: Client) -> None:
    tower.tick()
    client = Client()
    client.force_login(make_user("bob"))
    page = client.get(f"/endpoints/{tower.name}/objectives/")
    assert page.status_code == 200
    assert "disabled" in page.content.decode()
    assert client.post(f"/endpoints/{tower.name}/objectives/new/", form()).status_code == 403


def test_the_rules_stand_on_a_page_ready_to_be_copied(tower: Tower, alice: Client) -> None:
    tower.tick()
    text = alice.get(f"/endpoints/{tower.name}/objectives/prometheus/").content.decode()
    assert "pilothouse_serving_requests_total" in text
    assert "promtool check rules" in text
    native = alice.get(f"/endpoints/{tower.name}/objectives/prometheus/?histograms=native").content.decode()
    assert "histogram_fraction" in native


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ({"target": "99.99999"}, "From 0.0001 % to 99.9999 %, with four places at most."),
        ({"target": "0"}, "From 0.0001 % to 99.9999 %"),
        ({"kind": "latency", "limit_ms": "0"}, "Whole milliseconds, from 1 to 600,000."),
        ({"kind": "percentile", "limit_ms": "200", "window_minutes": "90"}, "Whole minutes, from 1 to 60."),
        ({"period_days": "0"}, "Whole days, from 1 to 90."),
        ({"runbook_url": "javascript:alert(1)"}, "An address that begins with http:// or https://."),
        ({"tiers": "fast: page 1h/5m 2 %\nz: page 1h/5m 200 %"}, "Tier 2 (z): its share of the budget lies between"),
        ({"tiers": "a: page 1h/5m 2 %\n\nb: page 1h/2h 2 %"}, "Tier 2 (b): the short window must be shorter"),
        ({"tiers": "a: page 1h/5m 99 %", "target": "99.5"}, "a fires above 712.8 times"),
    ],
)
def test_what_was_typed_wrong_is_told_in_the_words_and_units_of_the_form(
    tower: Tower, alice: Client, typed: dict[str, str], told: str
) -> None:
    sent = form(**({"profile": "custom"} if "tiers" in typed else {}), **typed)
    for path, status in (("new", 422), ("replay", 200)):
        answer = alice.post(f"/endpoints/{tower.name}/objectives/{path}/", sent)
        assert answer.status_code == status
        text = answer.content.decode()
        assert told in text
        for api_word in ("target_ppm", "limit_ms is", "window_seconds", "period_days is", "budget_bp"):
            assert api_word not in text
