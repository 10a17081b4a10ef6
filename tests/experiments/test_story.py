"""One experiment from its draft to its decision, on the fake target and real PostgreSQL."""

from __future__ import annotations

from apps.experiments.models import Period
from apps.experiments.selectors import experiment_get
from apps.experiments.services.decide import experiment_decide
from apps.targets.selectors import plan_of
from tests.experiments.lab import Lab
from tests.fakes.targets import ALICE


def test_a_better_version_is_found_and_shipped_and_the_endpoint_is_free_again(lab: Lab) -> None:
    experiment = lab.running(minimum_days=1)
    assert experiment.status == "running"
    assert experiment.planned_total > 2000
    assert lab.site.reload().traffic_holder == f"experiment:{experiment.pk}"
    plan = plan_of(lab.site.endpoint)
    assert plan is not None
    assert set(plan.route.arms.values()) == {"v1-0-0", "v1-1-0"}
    assert plan.route.weights_bp == {"v1-0-0": 10_000}
    assert Period.objects.get(experiment=experiment).route_period == plan.route.period

    lab.clock.forward(3600)
    lab.sell(experiment, 2400, {"control": 0.2, "treatment": 0.28})
    lab.clock.forward(2 * 86_400)
    look = lab.look(experiment)
    assert look.state == "done", look.error
    assert look.kind == "ship", look.result["decision"]
    assert look.result["units"]["total"] == 2400

    decision = experiment_decide(actor=ALICE, experiment_id=experiment.pk, kind="ship", readout_id=look.pk)
    assert (decision.kind, decision.is_override) == ("ship", False)
    assert experiment_get(experiment.pk).status == "decided"
    endpoint = lab.site.reload()
    after = plan_of(endpoint)
    assert after is not None
    assert (endpoint.traffic_holder, [v.key for v in after.variants], dict(after.route.arms)) == ("", ["v1-0-0"], {})
