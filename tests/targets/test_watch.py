"""Which targets are followed, and that one that cannot be does not stop the others."""

from __future__ import annotations

import pytest

from apps.targets.models import Target
from apps.targets.services.connect import target_create, target_probe
from apps.targets.services.watch import targets_to_watch
from tests.fakes.targets import ALICE

pytestmark = pytest.mark.django_db


def test_only_targets_that_can_say_when_something_changed_are_watched() -> None:
    target_create(actor=ALICE, name="lab", kind="fake")
    here = target_create(actor=ALICE, name="here", kind="local")
    assert targets_to_watch() == [here.pk]


def test_a_target_whose_connection_is_unusable_is_left_out_and_says_so() -> None:
    here = target_create(actor=ALICE, name="here", kind="local")
    broken = target_create(actor=ALICE, name="broken", kind="local")
    Target.objects.filter(pk=broken.pk).update(connection={"url": "nonsense"})
    assert targets_to_watch() == [here.pk]
    assert target_probe(target_id=broken.pk) is None
    broken.refresh_from_db()
    assert "nonsense" in broken.probe_error
