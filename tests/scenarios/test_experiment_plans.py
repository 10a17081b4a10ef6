"""A/B at plan time: what it costs is said, and what cannot be done is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from apps.kernel.errors import InvalidInput
from apps.rollouts.services import plan as plan_module
from apps.rollouts.services.plan import rollout_plan
from apps.targets.domain.driver import Support
from apps.targets.selectors import capabilities_of
from tests.fakes.targets import ALICE
from tests.rollouts.worlds import BY_USER, trial
from tests.scenarios.stage import Stage, open_stage

pytestmark = pytest.mark.django_db


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[Stage]:
    with open_stage(tmp_path) as opened:
        yield opened


def test_the_dry_run_says_how_many_units_and_how_long(stage: Stage) -> None:
    version = stage.version("1.1.0")
    step = trial({"planned_total": None, "minimum_days": 14}, units_per_day=20_000.0)
    planned = rollout_plan(
        actor=ALICE, endpoint_id=stage.site.endpoint.pk, version_id=version.pk, strategy="ab", experiment=step
    )
    first = planned.steps[0]
    assert first.sizing is not None
    assert (first.requests_needed, first.sizing["planned_total"]) == (280_000, 280_000)
    assert first.expected_seconds == 14 * 86_400
    assert "until slow decides; without a result keep the stable version" in first.sentence
    assert planned.is_startable, planned.blocks


def test_a_target_that_cannot_route_by_arm_refuses_at_plan_time(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = capabilities_of
    monkeypatch.setattr(plan_module, "capabilities_of", lambda target: replace(asked(target), arm_header=Support.NO))
    with pytest.raises(InvalidInput) as refused:
        stage.start(stage.version("1.1.0"), "ab", experiment=trial(BY_USER))
    assert refused.value.fields[0].pointer == "/steps/0/design/unit"
