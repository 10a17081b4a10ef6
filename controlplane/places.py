"""Where an object is: its team and environment. Asked for every subscription of a socket and for every message that is
told outside; the apps that ask stand below those whose objects these are, so it is wired here."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from django.db.models import Q, QuerySet

from apps.alerts.models import Incident
from apps.alerts.services.places import EndpointHealth
from apps.experiments.models import Experiment
from apps.registry.models import Model, ModelVersion
from apps.reviews.models import Review
from apps.rollouts.models import Rollout, SequenceMember
from apps.targets.models import Endpoint
from apps.targets.selectors import endpoint_list, observed_of, plan_of
from apps.targets.web.health import health_of

Where = tuple[str | None, str | None]


def endpoint_place(identity: str) -> Where | None:
    """By id or name; removed ones too, their last events still belong to somebody."""
    found = Endpoint.objects.filter(Q(pk=identity) | Q(name=identity))
    return found.values_list("team_id", "target__environment").first()


def rollout_place(identity: str) -> Where | None:
    """Where its endpoint is."""
    return _at_endpoint(Rollout.objects.filter(pk=identity))


def sequence_place(identity: str) -> Where | None:
    """Where all its endpoints are; of several teams or environments, only who may look into every one hears of it."""
    rows = SequenceMember.objects.filter(sequence=identity)
    found = list(rows.values_list("endpoint__team_id", "endpoint__target__environment").distinct())
    teams, environments = {team for team, _ in found}, {environment for _, environment in found}
    if not found:
        return None
    return teams.pop() if len(teams) == 1 else "*", environments.pop() if len(environments) == 1 else "*"


def model_place(identity: str) -> Where | None:
    """By id or name; a model is in no environment."""
    return _nowhere(Model.objects.filter(Q(pk=identity) | Q(name=identity)).values_list("team_id", flat=True).first())


def version_place(identity: str) -> Where | None:
    """Its model's."""
    return _nowhere(ModelVersion.objects.filter(pk=identity).values_list("model__team_id", flat=True).first())


def review_place(identity: str) -> Where | None:
    """As it was asked for; a review without a team is everybody's, which only a role everywhere reaches."""
    found = Review.objects.filter(pk=identity).values_list("team", "environment").first()
    return (found[0] or "*", found[1] or "*") if found else None


def alert_place(identity: str) -> Where | None:
    """Its own; one without a team is the whole house's, which only a role everywhere reaches."""
    found = Incident.objects.filter(pk=identity).values_list("team_id", "environment").first()
    return (found[0] or "*", found[1] or None) if found else None


def experiment_place(identity: str) -> Where | None:
    """Where its endpoint is."""
    return _at_endpoint(Experiment.objects.filter(pk=identity))


PLACES: Final[dict[str, Callable[[str], Where | None]]] = {
    "endpoint": endpoint_place,
    "rollout": rollout_place,
    "sequence": sequence_place,
    "model": model_place,
    "version": version_place,
    "review": review_place,
    "alert": alert_place,
}
CHANNELS: Final = {
    **{kind: PLACES[kind] for kind in ("endpoint", "rollout", "sequence", "model", "review", "alert")},
    "experiment": experiment_place,
    "slo": endpoint_place,
    "traffic": endpoint_place,
}


def endpoint_healths() -> Iterator[EndpointHealth]:
    """How every endpoint stands, as its page says it; "bad" is what callers feel."""
    for endpoint in endpoint_list():
        health = health_of(endpoint, plan_of(endpoint), observed_of(endpoint))
        yield EndpointHealth(
            endpoint.pk, endpoint.name, endpoint.team_id, endpoint.target.environment, health.level == "bad",
            health.sentence,
        )  # fmt: skip


def _at_endpoint(rows: QuerySet[Any]) -> Where | None:
    return rows.values_list("endpoint__team_id", "endpoint__target__environment").first()


def _nowhere(team: str | None) -> Where | None:
    return (team, None) if team else None
