"""A version that turns bad late, after thousands of good answers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from apps.kernel.canonical import canonical_json
from apps.rollouts.domain.decide import decide
from apps.rollouts.domain.gates import alpha_of, is_over
from apps.rollouts.domain.machine import action_json
from apps.rollouts.domain.state import RolloutState, Seen
from tests.scenarios.stage import Manner, open_stage

pytestmark = pytest.mark.django_db


def test_thirty_bad_after_three_thousand_good_requests_roll_back(tmp_path: Path) -> None:
    with open_stage(tmp_path) as stage:
        # given a canary that has just reached its 50 % step, after more than 3,000 good answers of the candidate
        stage.rate = 1_000
        rollout = stage.start(stage.version("1.1.0"))
        for _ in range(200):
            stage.run(1)
            if (held := stage.reload(rollout)).weight_bp == 5000 and held.phase == "shifting":
                break
        stage.rate = 20
        assert stage.reload(rollout).weight_bp == 5000
        # when it fails thirty times within some seconds
        stage.manners["v1-1-0"] = Manner(errors_percent=100)
        stage.run(3)
        stage.manners.clear()
        stage.run(2)
        # then it goes back, although the whole attempt proves nothing
        back = next(row for row in stage.history(rollout) if row.action == "RollBack")
        state, seen = RolloutState.from_json(json.loads(back.state)), Seen.from_json(json.loads(back.seen))
        counts = next(one for one in seen.counts if one.key == "error_rate")
        assert counts.total - counts.surely > 3_000
        assert counts.surely <= 30
        assert not is_over(counts.surely, counts.total, 0.01, alpha_of(state.plan) / 2)
        assert "in this step, " in back.reason
        assert canonical_json(action_json(decide(state, seen))) == back.decision
        assert stage.weights() == {"v1-0-0": 10_000}
