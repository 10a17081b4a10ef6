"""Ctrl-K on the server's side: what is found, for whom; and the keys that every page carries."""

from __future__ import annotations

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from apps.rollouts.domain.waves import WaveAsked
from apps.rollouts.services.sequences import sequence_plan, sequence_start
from tests.api.world import World
from tests.fakes.targets import ALICE
from tests.web.conftest import Browser


def test_without_a_word_it_offers_the_pages_and_what_there_is(world: World, browser: Browser) -> None:
    html = browser("alice").get("/_find/").content.decode()
    for word in ("Fleet", "Freeze windows", "API reference", "late-arrival"):
        assert word in html


@pytest.mark.parametrize(
    ("asked", "path"),
    [
        ("late", "/endpoints/late-arrival/"),
        ("LATE arr", "/models/late-arrival/"),
        ("late 2.0", "/models/late-arrival/versions/2.0.0/"),
        ("freeze", "/settings/freezes/"),
    ],
)
def test_pages_models_versions_and_endpoints_are_found_by_a_part_of_their_name(
    world: World, browser: Browser, asked: str, path: str
) -> None:
    assert f'href="{path}"' in browser("alice").get("/_find/", {"q": asked}).content.decode()


def test_a_rollout_is_found_by_version_endpoint_phase_and_id(world: World, browser: Browser) -> None:
    rollout = world.start()
    alice = browser("alice")
    for asked in ("1.1", "1.1.0 late", "pend", rollout.pk):
        assert f"/rollouts/{rollout.pk}/" in alice.get("/_find/", {"q": asked}).content.decode(), asked


def test_what_fits_nothing_says_so_and_is_escaped(world: World, browser: Browser) -> None:
    html = browser("alice").get("/_find/", {"q": "<script>"}).content.decode()
    assert "Nothing is called" in html
    assert "<script>" not in html


def test_it_costs_the_same_however_long_the_question(world: World, browser: Browser) -> None:
    alice = browser("alice")
    with CaptureQueriesContext(connection) as queries:
        alice.get("/_find/", {"q": "late arrival 1.1 " * 40})
    assert len(queries) <= 12


def test_nobody_and_whoever_has_no_role_find_nothing(world: World, browser: Browser) -> None:
    assert browser("").get("/_find/").status_code == 302
    assert browser("mallory").get("/_find/").status_code == 403


def test_every_room_has_its_key_and_the_help_lists_it(world: World, browser: Browser) -> None:
    html = browser("alice").get("/").content.decode()
    for key, room in (("f", "Fleet"), ("r", "Rollouts"), ("m", "Models"), ("s", "Settings")):
        assert f'data-go="{key}"' in html
        assert f"<kbd>g</kbd> <kbd>{key}</kbd></dt><dd>go to {room}" in html


def test_sequences_are_found_by_their_word_version_and_id(world: World, browser: Browser) -> None:
    waves = [WaveAsked(("late-arrival",))]
    planned = sequence_plan(
        actor=ALICE, version_id=world.versions["1.1.0"].pk, waves=waves, strategy="canary", profile="fast"
    )
    row, alice = sequence_start(actor=ALICE, planned=planned), browser("alice")
    for asked in ("sequence", "seq 1.1", row.pk, "late running"):
        assert f"/rollouts/sequences/{row.pk}/" in alice.get("/_find/", {"q": asked}).content.decode(), asked
    assert row.pk not in alice.get("/_find/", {"q": "9.9"}).content.decode()
    assert "/rollouts/sequences/new/" in alice.get("/_find/", {"q": "new sequence"}).content.decode()
    assert "/rollouts/sequences/" in alice.get("/rollouts/").content.decode()
