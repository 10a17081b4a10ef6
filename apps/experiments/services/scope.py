"""Rights at one experiment: its endpoint's team and its target's environment. What one may not see is not there."""

from __future__ import annotations

from typing import TYPE_CHECKING

from apps.accounts.services.access import access_require
from apps.experiments.models import Experiment
from apps.experiments.selectors import experiment_get
from apps.kernel.actor import Actor
from apps.targets.selectors import endpoint_get

if TYPE_CHECKING:
    from apps.targets.models import Endpoint


def endpoint_require(actor: Actor, action: str, endpoint_id: str) -> Endpoint:
    """The endpoint (id or name), if ``actor`` may do ``action`` there. Raises NotFound, Forbidden naming who can."""
    endpoint = endpoint_get(endpoint_id, actor)
    access_require(actor, action, endpoint.team_id, endpoint.target.environment)
    return endpoint


def experiment_require(actor: Actor, action: str, experiment_id: str) -> Experiment:
    """The experiment, if ``actor`` may do ``action`` to it. Raises NotFound, Forbidden naming who can."""
    experiment = experiment_get(experiment_id, actor)
    access_require(actor, action, experiment.endpoint.team_id, experiment.endpoint.target.environment)
    return experiment
