"""What somebody else changed at a target, on the endpoint's page and in the log."""

from __future__ import annotations

from apps.audit.models import Event
from apps.targets.domain.driver import HandChange, Observed
from apps.targets.models import Endpoint
from apps.targets.services.observe import observed_store
from tests.api.world import World
from tests.web.conftest import Browser

EVENTS = "/rollouts/at/late-arrival/events/"
SCALED = HandChange("Deployment late-arrival-v1", "spec.replicas", "1", "5", "kubectl-scale", is_healed=False)
DELETED = HandChange("Service late-arrival-v1")


def see(endpoint: Endpoint, *changes: HandChange) -> bool:
    """The target is seen with these changes, a moment later."""
    endpoint.refresh_from_db()
    seen = Observed(endpoint.name, 1, endpoint.generation, endpoint.generation, changes=changes)
    return observed_store(endpoint_id=endpoint.pk, observed=seen)


def test_a_change_by_hand_is_told_once_and_once_more_when_it_is_over(world: World, browser: Browser) -> None:
    Endpoint.objects.filter(pk=world.endpoint.pk).update(applied_generation=world.endpoint.generation)
    assert see(world.endpoint, SCALED, DELETED)
    assert not see(world.endpoint, SCALED, DELETED), "no news"
    assert see(world.endpoint, SCALED)
    assert see(world.endpoint)
    verbs = Event.objects.filter(subject_id=world.endpoint.pk, verb__in=["endpoint.diverged", "endpoint.healed"])
    assert [event.verb for event in verbs.order_by("seq")] == [
        "endpoint.diverged", "endpoint.healed", "endpoint.healed",
    ]  # fmt: skip
    page = browser("alice").get(EVENTS).content.decode()
    assert "spec.replicas is 5, desired is 1 (by kubectl-scale): left as it is" in page
    assert "Service late-arrival-v1 is not there any more: it is made again" in page
    assert "Service late-arrival-v1 was made again" in page
    assert "Pilothouse did not force it" in page


def test_what_is_missing_before_the_plan_was_ever_applied_is_nobodys_doing(world: World, browser: Browser) -> None:
    Endpoint.objects.filter(pk=world.endpoint.pk).update(applied_generation=world.endpoint.generation - 1)
    assert see(world.endpoint, DELETED)
    assert see(world.endpoint)
    assert not Event.objects.filter(verb__in=["endpoint.diverged", "endpoint.healed"]).exists()
    assert "Changed by somebody else" not in browser("alice").get(EVENTS).content.decode()
