"""A fake target with one endpoint on it, made through the product's own services."""

from __future__ import annotations

import uuid
from dataclasses import dataclass

from django.db import transaction

from apps.kernel.actor import Actor
from apps.registry.models import ModelVersion
from apps.targets.domain.plan import EndpointPlan, Role
from apps.targets.drivers.fake import WORLDS, FakeWorld
from apps.targets.models import Endpoint, Target
from apps.targets.services.connect import endpoint_create, target_create
from apps.targets.services.variants import variant_of
from tests.fakes.clock import FakeClock
from tests.fakes.registry import make_version

ALICE = Actor(kind="user", id="1", label="Alice", actions=frozenset({"*"}))


@dataclass
class FakeSite:
    """``world`` is what the target really does; ``clock`` is its time."""

    target: Target
    endpoint: Endpoint
    stable: ModelVersion
    world: FakeWorld
    clock: FakeClock

    def reload(self) -> Endpoint:
        self.endpoint.refresh_from_db()
        return self.endpoint

    def desire(self, weights_bp: dict[str, int], *versions: ModelVersion, epoch: int | None = None) -> EndpointPlan:
        """The stable version and ``versions`` as candidates, with these weights."""
        from apps.targets.services.desire import endpoint_desire

        variants = [variant_of(self.stable, Role.STABLE), *(variant_of(each, Role.CANDIDATE) for each in versions)]
        with transaction.atomic():
            return endpoint_desire(
                actor=ALICE,
                endpoint_id=self.endpoint.pk,
                variants=variants,
                weights_bp=weights_bp,
                epoch=epoch,
                reason="a test wants it",
            )


def make_site(*, name: str = "late-arrival", environment: str = "development") -> FakeSite:
    """A fake target in a world of its own, and an endpoint that serves 1.0.0 of model ``name``."""
    key, clock = uuid.uuid4().hex, FakeClock()
    WORLDS[key] = world = FakeWorld(clock=clock)
    target = target_create(
        actor=ALICE, name=f"fake-{key[:8]}", kind="fake", environment=environment, connection={"world": key}
    )
    stable = make_version(name, "1.0.0")
    endpoint = endpoint_create(
        actor=ALICE, name=name, target_id=target.pk, model_id=stable.model_id, version_id=stable.pk
    )
    return FakeSite(target, endpoint, stable, world, clock)
