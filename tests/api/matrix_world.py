"""Two teams that must not see each other, each with one of everything, and a caller of every kind."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.test import Client

from apps.accounts.domain.roles import Role
from apps.accounts.models import Team, User
from apps.accounts.services.access import actor_of
from apps.accounts.services.memberships import membership_give
from apps.accounts.services.people import person_create
from apps.accounts.services.teams import service_create, team_create
from apps.accounts.services.tokens import token_make
from apps.accounts.services.trusts import trust_create
from apps.alerts.domain.states import DeliveryState
from apps.alerts.models import Delivery, Notice
from apps.alerts.services.channels import channel_create, route_create
from apps.alerts.services.incidents import Observation, incidents_observe
from apps.alerts.services.receivers import receiver_create
from apps.alerts.services.sending import channel_test
from apps.alerts.services.subscriptions import subscription_create
from apps.experiments.models import Readout, Study
from apps.experiments.services.designs import experiment_create
from apps.kernel.actor import SYSTEM
from apps.kernel.clock import now
from apps.registry.models import Model, PromotionRequest
from apps.registry.services.importing import import_create
from apps.registry.services.register import model_create, version_register
from apps.reviews.services.open import Subject, review_open
from apps.rollouts.domain.waves import Place, SequencePlan, Wave
from apps.rollouts.models import RolloutSequence, SequenceMember
from apps.rollouts.services.lifecycle import rollout_start
from apps.slo.services.objectives import objective_create
from apps.targets.models import Endpoint, ImageBuild
from apps.targets.services.connect import endpoint_create, target_create, target_probe
from apps.targets.services.freeze import freeze_create
from tests.api.rows import DESIGN
from tests.api.world import artifact
from tests.cast import make_user

OWN, FOREIGN, ELSEWHERE = "own", "foreign", "elsewhere"
ROLES: tuple[str, ...] = ("none", *(role.value for role in Role))
HASH = "sha256:" + "0" * 64


@dataclass(frozen=True)
class Person:
    """A caller. ``reach``: ``all`` (everywhere), ``team`` (acme), ``place`` (acme, staging); "" for nobody."""

    role: str
    reach: str
    is_key: bool
    client: Client

    def __str__(self) -> str:
        return f"{'key of ' if self.is_key else ''}{self.role or 'nobody'} ({self.reach})"


@dataclass
class Matrix:
    places: dict[str, dict[str, str]]
    people: list[Person]
    folder: Path

    def there(self, where: str) -> dict[str, str]:
        return self.places[where]


def make_matrix(folder: Path) -> Matrix:
    """Teams acme (staging: ``own``, production: ``elsewhere``) and globex (staging: ``foreign``)."""
    teams = {slug: team_create(actor=SYSTEM, slug=slug) for slug in ("acme", "globex")}
    targets = {}
    for environment in ("staging", "production"):
        target = target_create(
            actor=SYSTEM, name=f"at-{environment}", kind="fake", environment=environment,
            connection={"world": f"{folder.name}-{environment}"},
        )  # fmt: skip
        target_probe(target_id=target.pk)
        targets[environment] = target
    models = {slug: _model(folder / slug, team) for slug, team in teams.items()}
    accounts = {slug: _accounts(team) for slug, team in teams.items()}
    new = str(artifact(folder / "new", "new"))
    places = {}
    for where, slug, environment in (
        (OWN, "acme", "staging"), (ELSEWHERE, "acme", "production"), (FOREIGN, "globex", "staging")
    ):  # fmt: skip
        served = _served(f"{slug}-{environment}", models[slug], targets[environment], teams[slug])
        places[where] = {
            "team": teams[slug].pk, "model": models[slug].name,
            "promotion": models[slug].promotion_requests.get().pk, "target": targets[environment].name, "artifact": new,
            **accounts[slug], **served,
        }  # fmt: skip
        job = import_create(actor=SYSTEM, url=f"https://mlflow.example.com/{where}", team=slug)
        places[where]["import"] = job.pk
    return Matrix(places, list(_people(teams["acme"])), folder)


def _model(folder: Path, team: Team) -> Model:
    model = model_create(actor=SYSTEM, name=f"model-of-{team.slug}")
    Model.objects.filter(pk=model.pk).update(team=team)
    for semver in ("1.0.0", "1.1.0"):
        version_register(actor=SYSTEM, model_name=model.name, semver=semver, path=artifact(folder / semver, semver))
    PromotionRequest.objects.create(model=model, alias="champion", asked_kind="user", asked_id="0", asked_by="nobody")
    return Model.objects.get(pk=model.pk)


def _served(name: str, model: Model, target: Any, team: Team) -> dict[str, str]:
    versions = {row.semver: row for row in model.versions.all()}
    endpoint = endpoint_create(
        actor=SYSTEM, name=name, target_id=target.pk, model_id=model.pk, version_id=versions["1.0.0"].pk
    )
    Endpoint.objects.filter(pk=endpoint.pk).update(team=team)
    rollout = rollout_start(
        actor=SYSTEM, endpoint_id=endpoint.pk, version_id=versions["1.1.0"].pk, strategy="canary", profile="fast"
    )
    review = review_open(
        actor=SYSTEM,
        subject=Subject("test", name, name, team=team.pk, environment=target.environment),
        title="May it?", request="", plan_hash=HASH, evidence={},
    )  # fmt: skip
    freeze = freeze_create(
        actor=SYSTEM, endpoint_id=endpoint.pk, reason="a test",
        starts_at=now() + timedelta(days=26_000), ends_at=now() + timedelta(days=26_001),
    )  # fmt: skip
    build = ImageBuild.objects.create(
        target=target, version=versions["1.0.0"], image="registry.example.com/a:1", base="python:3.11", asked_by="x"
    )
    experiment = experiment_create(
        actor=SYSTEM, name="a test", endpoint_id=endpoint.pk, treatment_version_id=versions["1.1.0"].pk, design=DESIGN
    )
    readout = Readout.objects.create(experiment=experiment, requested_by="nobody")
    objective = objective_create(
        actor=SYSTEM, endpoint_id=endpoint.pk, name="matrix", kind="availability", target_ppm=995_000
    )
    seen = Observation(
        f"test:{name}", "test", team.pk, target.environment, "endpoint", endpoint.pk, name, "page", "a test", "a test"
    )
    study = Study.objects.create(inputs_hash=name, runs=1000, requested_by="nobody")
    return {
        "objective": objective.pk, "alert": incidents_observe([seen])[0].pk, "study": study.pk,
        "experiment": experiment.pk, "readout": readout.pk,
        "endpoint": name, "rollout": rollout.pk, "review": review.pk, "freeze": freeze.pk, "build": build.pk,
        "sequence": _sequence(endpoint, versions["1.1.0"], rollout.plan),
        "plan_hash": HASH, "evidence_hash": review.evidence_hash,
    }  # fmt: skip


def _sequence(endpoint: Endpoint, version: Any, plan: Any) -> str:
    """Its one member has not begun: a rollout of its own is under way there."""
    waves = SequencePlan((Wave((Place(endpoint.pk, endpoint.name),)),), version.semver)
    row = RolloutSequence.objects.create(
        candidate_version=version, plan=waves.to_json(), plan_hash=waves.plan_hash, created_by="nobody"
    )
    SequenceMember.objects.create(sequence=row, endpoint=endpoint, wave=0, place=0, plan=plan, plan_hash=HASH)
    return str(row.pk)


def _accounts(team: Team) -> dict[str, str]:
    person, _ = person_create(actor=SYSTEM, username=f"somebody-of-{team.slug}")
    held = membership_give(actor=SYSTEM, user=person, role=Role.VIEWER, team=team)
    service = service_create(actor=SYSTEM, team=team, name="ci")
    membership_give(actor=SYSTEM, user=service, role=Role.ENGINEER, team=team)
    trust = trust_create(
        actor=SYSTEM, account=service, roles=frozenset({Role.ENGINEER}), label="ci", provider="gitlab",
        issuer="https://gitlab.com", audience="https://pilothouse.example.com", repository_id=str(len(team.slug)),
        ref="refs/heads/main", environment="",
    )  # fmt: skip
    maker = actor_of(make_user(f"maker-of-{team.slug}", frozenset({Role.ADMIN, Role.ENGINEER}), team))
    key, _ = token_make(actor=maker, user=service, label="ci", roles=frozenset({Role.ENGINEER}))
    hook, _ = subscription_create(
        actor=SYSTEM, name="other", url="https://hooks.example.com/", events=["alias.moved"], team=team.slug
    )
    message = Delivery.objects.create(
        subscription=hook, event="alias.moved", source="audit:0", body="{}", state=DeliveryState.GIVEN_UP
    )
    return {
        "webhook": hook.pk, "delivery": message.pk, **_alerting(team),
        "person": str(person.pk), "membership": str(held.pk), "service": str(service.pk), "trust": trust.pk,
        "token": key.pk,
    }  # fmt: skip


def _alerting(team: Team) -> dict[str, str]:
    channel, _ = channel_create(
        actor=SYSTEM, name="other", kind="webhook", address="https://hooks.example.com/", team=team.slug
    )
    notice = channel_test(actor=SYSTEM, channel_id=channel.pk)
    Notice.objects.filter(pk=notice.pk).update(state=DeliveryState.GIVEN_UP)
    receiver, _ = receiver_create(actor=SYSTEM, name=f"of {team.slug}", team=team.slug)
    return {
        "channel": channel.pk, "notice": notice.pk, "receiver": receiver.pk,
        "route": route_create(actor=SYSTEM, channels=[channel.pk], source="drift", team=team.slug).pk,
    }  # fmt: skip


def _people(team: Team) -> Iterator[Person]:
    yield Person("", "", is_key=False, client=Client())
    reaches: tuple[tuple[str, Team | None, str], ...] = (
        ("all", None, ""),
        ("team", team, ""),
        ("place", team, "staging"),
    )
    for reach, where, environment in reaches:
        everything = frozenset(Role)
        rich = make_user(f"rich-{reach}", everything, where, environment)
        for role in ROLES:
            given = frozenset({Role(role)}) if role != "none" else frozenset()
            user = make_user(f"{role}-{reach}", given, where, environment)
            yield Person(role, reach, is_key=False, client=_signed_in(user))
            if given:  # a key without a role cannot be made
                _, text = token_make(actor=actor_of(rich), user=rich, label=f"{role}-{reach}", roles=given)
                yield Person(role, reach, is_key=True, client=Client(headers={"Authorization": f"Bearer {text}"}))


def _signed_in(user: User) -> Client:
    client = Client()
    client.force_login(user)
    session = client.session
    # ahead of its time: a proof of who one is gets old after five minutes, and a slow machine needs longer for all rows
    session["signed_in_at"] = session["seen_at"] = now().timestamp() + 3600
    session.save()
    client.cookies[settings.SESSION_COOKIE_NAME] = session.session_key
    return client
