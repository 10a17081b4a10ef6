"""One version wears one colour, on whichever page it is drawn."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pytest

from apps.rollouts.domain.machine import Phase
from apps.rollouts.models import Rollout
from apps.targets.domain.plan import EndpointPlan, Role, Route
from apps.targets.domain.tones import tone_of
from apps.targets.models import Endpoint
from tests.api.world import World
from tests.web.conftest import Browser, report


def worn(html: str) -> dict[str, set[str]]:
    """Version -> the colours of its lines and fills in the charts of a page."""
    found: dict[str, set[str]] = {}
    for text in re.findall(r'<script type="application/json">(.*?)</script>', html, re.DOTALL):
        for trace in orjson.loads(text).get("data", []):
            name = str(trace.get("name", "")).split(" ")[0]
            if re.fullmatch(r"\d+\.\d+\.\d+", name):
                shade = trace.get("line", trace.get("marker", {})).get("color") or trace["marker"]["color"]
                found.setdefault(name, set()).add(shade)
    return found


@pytest.mark.parametrize("ended", [Phase.PROMOTED, Phase.ROLLED_BACK])
def test_rollout_and_endpoint_pages_agree_after_the_end(world: World, browser: Browser, ended: Phase) -> None:
    rollout, alice = world.start(), browser("alice")
    for key in ("v1-0-0", "v1-1-0"):
        report(key, seconds=[0.02] * 50)
    serving = "1.1.0" if ended is Phase.PROMOTED else "1.0.0"
    leave_one(world, serving)
    Rollout.objects.filter(pk=rollout.pk).update(phase=ended)
    drawn: list[Any] = [
        worn(alice.get(path).content.decode())
        for path in (f"/rollouts/{rollout.pk}/charts/", "/rollouts/at/late-arrival/charts/15m/")
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0][serving] == {"var(--stable)"}
    assert len({shade for shades in drawn[0].values() for shade in shades}) == 2, "both can be told apart"


def leave_one(world: World, semver: str) -> None:
    """The endpoint wants ``semver`` alone, as after the end of a rollout."""
    endpoint = Endpoint.objects.get(pk=world.endpoint.pk)
    plan = EndpointPlan.from_json(endpoint.desired)
    key = world.versions[semver].variant_key
    only = replace(plan.variants[0], key=key, version=semver, role=Role.STABLE)
    after = EndpointPlan(plan.endpoint, plan.generation, (only,), Route(plan.route.period, {key: 10_000}))
    Endpoint.objects.filter(pk=endpoint.pk).update(desired=after.to_json())


def test_the_next_version_wears_another_colour_than_the_one_before() -> None:
    line = ["v1-0-0", "v1-0-1", "v1-0-2", "v1-1-0", "v1-2-0", "v1-2-1", "v1-3-0"]
    assert all(tone_of(before) != tone_of(after) for before, after in pairwise(line))
    assert {tone_of(key) for key in [*line, "n7", "odd"]} <= {f"other-{n}" for n in range(1, 7)}
