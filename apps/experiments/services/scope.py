"""Rights at one experiment: its endpoint's team and its target's environment. What one may not see is not there."""

from __future__ import annotations

from apps.accounts.services.access import access_require
from apps.experiments.domain.words import ENDED
from apps.experiments.models import Experiment
from apps.experiments.selectors import experiment_get
from apps.kernel.actor import Actor
from apps.kernel.errors import Conflict


def experiment_require(actor: Actor, action: str, experiment_id: str) -> Experiment:
    """The experiment, if ``actor`` may do ``action`` to it. Raises NotFound, Forbidden naming who can."""
    experiment = experiment_get(experiment_id, actor)
    access_require(actor, action, experiment.endpoint.team_id, experiment.endpoint.target.environment)
    return experiment


def raw_require(experiment: Experiment) -> None:
    """Raises Conflict ``raw_dropped`` where only the sums are left: what came now could not be told from what came
    then."""
    if experiment.raw_dropped_at is not None:
        raise Conflict(
            "raw_dropped",
            f"This experiment ended, and its single rows were dropped at {experiment.raw_dropped_at:%Y-%m-%d %H:%M} "
            "UTC: its sums are final, nothing more is taken in.",
        )


def raw_hold(experiment: Experiment) -> None:
    """Until the caller's transaction ends nobody verifies the sums of an ended experiment; one that collects is never
    verified, so it waits for nothing. Raises Conflict ``raw_dropped``."""
    if experiment.status in ENDED:
        row = Experiment.objects.select_for_update(no_key=True).only("raw_dropped_at").get(pk=experiment.pk)
        experiment.raw_dropped_at = row.raw_dropped_at
        raw_require(experiment)
