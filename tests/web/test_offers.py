"""What could be rolled out next: a few cards, the most sensible first, and the rest by endpoint."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

from apps.kernel.actor import SYSTEM
from apps.registry.services.register import model_create, version_register
from apps.rollouts.models import Rollout
from apps.rollouts.web.offers import MAX_MORE, SHOWN, Offer, board_of
from apps.targets.models import Target
from apps.targets.services.connect import endpoint_create
from tests.api.world import World, artifact
from tests.web.conftest import Browser

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def offer(endpoint: str, version: str, day: int, **other: Any) -> Offer:
    return Offer(endpoint, version, "", "1.0.0", "/", at=BEGIN + timedelta(days=day), **other)


def named(offers: list[Offer]) -> list[str]:
    return [f"{one.endpoint} {one.version}" for one in offers]


def test_each_endpoint_s_newest_comes_before_any_endpoint_s_second() -> None:
    board = board_of([offer("a", "1.1.0", 1), offer("a", "1.2.0", 2), offer("b", "1.1.0", 3), offer("b", "1.2.0", 4)])
    assert named(board["offers"]) == ["b 1.2.0", "a 1.2.0", "b 1.1.0"]
    assert [(endpoint, named(found)) for endpoint, found in board["more"]] == [("a", ["a 1.1.0"])]
    assert board["more_count"] == 1


def test_what_went_back_or_is_for_somebody_else_comes_after_what_can_be_tried() -> None:
    board = board_of(
        [offer("a", "1.1.0", 1), offer("a", "1.2.0", 2, last=Rollout()), offer("b", "1.1.0", 3, who_not="no")]
    )
    assert named(board["offers"]) == ["a 1.1.0", "b 1.1.0", "a 1.2.0"]


def test_of_very_many_the_rest_is_counted() -> None:
    board = board_of([offer(f"e{number:03}", "1.1.0", number) for number in range(SHOWN + MAX_MORE + 7)])
    assert (len(board["more"]), board["more_count"], board["beyond"]) == (MAX_MORE, MAX_MORE + 7, 7)
    assert board_of([]) == {"offers": [], "more": [], "more_count": 0, "beyond": 0}


def test_a_fleet_of_six_shows_three_cards_and_a_link_to_every_other_version(world: World, browser: Browser) -> None:
    target = Target.objects.get(name="here")
    for name in ("churn", "eta", "demand", "fraud", "search"):
        model = model_create(actor=SYSTEM, name=name)
        versions = [
            version_register(
                actor=SYSTEM, model_name=name, semver=semver, path=artifact(world.folder / name / semver, name + semver)
            )
            for semver in ("1.0.0", "1.1.0", "1.2.0")
        ]
        endpoint_create(actor=SYSTEM, name=name, target_id=target.pk, model_id=model.pk, version_id=versions[0].pk)
    html = browser("alice").get("/_fleet/").content.decode()
    cards = re.findall(r'<div class="card next">.*?over 1.0.0 on ([a-z-]+)<', html, re.DOTALL)
    assert cards == ["search", "fraud", "demand"], "registered last comes first"
    assert html.count("Roll out 1.2.0</a>") == 3
    rest = html.split('<details class="section-gap" id="more-offers">')[1].split("</details>")[0]
    assert "8 more versions" in rest
    others = set(re.findall(r'aria-label="Roll out ([0-9.]+ on [a-z-]+)"', rest))
    assert len(others) == 8
    assert {"1.1.0 on late-arrival", "1.2.0 on eta", "1.1.0 on search"} <= others
