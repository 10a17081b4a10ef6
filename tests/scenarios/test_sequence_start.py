"""Starting a sequence: every member is looked at before the first begins, and what is wrong is said at its field."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from apps.kernel.errors import InvalidInput, PolicyRefused
from apps.rollouts.domain.waves import WaveAsked
from apps.rollouts.models import Rollout, RolloutSequence
from apps.rollouts.services.sequences import sequence_plan
from tests.fakes.targets import ALICE
from tests.scenarios.fleet import PATIENT, Fleet, open_fleet, waves

pytestmark = pytest.mark.django_db


@pytest.fixture
def fleet(tmp_path: Path) -> Iterator[Fleet]:
    with open_fleet(tmp_path, ("alpha", "bravo")) as opened:
        yield opened


def test_the_dry_run_looks_at_every_member_and_a_later_wave_only_warns_of_what_is_so_now(fleet: Fleet) -> None:
    version = fleet.version()
    fleet.stages["bravo"].start(fleet.stages["bravo"].version("1.2.0"), steps=PATIENT, guardrails=())
    asked: dict[str, Any] = {"actor": ALICE, "version_id": version.pk, "strategy": "canary", "profile": "fast"}
    later = sequence_plan(waves=waves("alpha", "bravo"), **asked)
    assert later.is_startable
    warned = [check for one in later.members for check in one.checks if check.code == "endpoint_busy"]
    assert [check.level.value for check in warned] == ["warn"]
    assert "Wave 2 waits for it." in warned[0].detail
    first = sequence_plan(waves=waves("bravo", "alpha"), **asked)
    assert [check.code for _, check in first.blocks] == ["endpoint_busy"]
    assert first.plan_hash != later.plan_hash
    assert not RolloutSequence.objects.exists()


def test_a_version_that_breaks_callers_of_one_member_starts_nothing_anywhere(fleet: Fleet) -> None:
    version = fleet.version()
    type(version).objects.filter(pk=version.pk).update(status="failed_registration", status_message="no MLmodel")
    with pytest.raises(PolicyRefused, match="failed_registration"):
        fleet.start(version, *waves("alpha", "bravo"))
    assert not RolloutSequence.objects.exists()
    assert not Rollout.objects.exists()


@pytest.mark.parametrize(
    ("asked", "options", "pointer"),
    [
        ((), {}, "/waves"),
        ((WaveAsked(()),), {}, "/waves/0/endpoints"),
        ((WaveAsked(("alpha",)), WaveAsked(("alpha",))), {}, "/waves/1/endpoints/0"),
        ((WaveAsked(("alpha",), -1), WaveAsked(("bravo",))), {}, "/waves/0/bake_seconds"),
        ((WaveAsked(("alpha",)),), {"max_concurrent": 0}, "/max_concurrent"),
        ((WaveAsked(("alpha",)),), {"on_failure": "hope"}, "/on_failure"),
    ],
)
def test_what_is_wrong_with_the_waves_is_said_at_its_field(
    fleet: Fleet, asked: tuple[WaveAsked, ...], options: dict[str, Any], pointer: str
) -> None:
    with pytest.raises(InvalidInput) as refused:
        fleet.start(fleet.version(), *asked, **options)
    assert [error.pointer for error in refused.value.fields] == [pointer]


def test_an_endpoint_named_by_name_and_by_id_is_named_twice(fleet: Fleet) -> None:
    endpoint = fleet.stages["alpha"].site.endpoint
    with pytest.raises(InvalidInput, match="named twice"):
        fleet.start(fleet.version(), WaveAsked(("alpha",)), WaveAsked((endpoint.pk,)))
