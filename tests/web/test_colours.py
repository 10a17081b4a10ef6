"""One version wears one colour, on whichever page it is drawn."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise
from typing import Any

import orjson
import pytest

from apps.kernel.clock import now
from apps.rollouts.domain.machine import TERMINAL, Phase
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


ROLES = {"1.1.0": {"var(--candidate)"}, "1.0.0": {"var(--stable)"}}


@pytest.mark.parametrize("ended", sorted(TERMINAL))
def test_the_page_of_a_rollout_keeps_its_colours_to_its_end_and_ever_after(
    world: World, browser: Browser, ended: Phase
) -> None:
    rollout, alice = world.start(), browser("alice")
    path = f"/rollouts/{rollout.pk}/charts/"
    for key in ("v1-0-0", "v1-1-0"):
        report(key, seconds=[0.02] * 50)
    assert worn(alice.get(path).content.decode()) == ROLES
    leave_both(world, {"v1-1-0": Role.STABLE, "v1-0-0": Role.SHADOW})  # while it drains, the old version is a shadow
    assert worn(alice.get(path).content.decode()) == ROLES
    Rollout.objects.filter(pk=rollout.pk).update(phase=ended, finished_at=now())
    for serving in ("1.1.0", "1.0.0"):
        leave_one(world, serving)
        assert worn(alice.get(path).content.decode()) == ROLES


def test_the_endpoints_page_agrees_with_the_rollouts_until_the_candidate_is_stable(
    world: World, browser: Browser
) -> None:
    rollout, alice = world.start(), browser("alice")
    for key in ("v1-0-0", "v1-1-0"):
        report(key, seconds=[0.02] * 50)
    for phase in (Phase.BAKING, Phase.PROMOTING, Phase.ROLLING_BACK, Phase.ROLLED_BACK):
        Rollout.objects.filter(pk=rollout.pk).update(phase=phase)
        assert worn(alice.get("/rollouts/at/late-arrival/charts/15m/").content.decode()) == ROLES, phase
    Rollout.objects.filter(pk=rollout.pk).update(phase=Phase.PROMOTED)
    leave_one(world, "1.1.0")
    drawn: Any = worn(alice.get("/rollouts/at/late-arrival/charts/15m/").content.decode())
    assert drawn == {"1.1.0": {"var(--stable)"}, "1.0.0": {f"var(--{tone_of('v1-0-0')})"}}


def test_a_shadow_is_violet_on_its_page(world: World, browser: Browser) -> None:
    rollout = world.start()
    Rollout.objects.filter(pk=rollout.pk).update(strategy="shadow")
    for key in ("v1-0-0", "v1-1-0"):
        report(key, seconds=[0.02] * 50)
    drawn: Any = worn(browser("alice").get(f"/rollouts/{rollout.pk}/charts/").content.decode())
    assert drawn["1.1.0"] == {"var(--shadow-variant)"}


def leave_both(world: World, roles: dict[str, Role]) -> None:
    """The endpoint wants both, with these roles."""
    endpoint = Endpoint.objects.get(pk=world.endpoint.pk)
    plan = EndpointPlan.from_json(endpoint.desired)
    pair = tuple(
        replace(plan.variants[0], key=key, version=key[1:].replace("-", "."), role=role) for key, role in roles.items()
    )
    after = EndpointPlan(plan.endpoint, plan.generation, pair, Route(plan.route.period, {pair[0].key: 10_000}))
    Endpoint.objects.filter(pk=endpoint.pk).update(desired=after.to_json())


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
