"""What an endpoint runs is deleted by no door."""

from __future__ import annotations

import pytest

from apps.kernel.errors import PolicyRefused
from apps.registry.models import Model, ModelVersion
from apps.registry.services.catalogue import model_delete
from apps.registry.services.versions import version_delete
from tests.fakes.registry import make_version
from tests.fakes.targets import ALICE, make_site

pytestmark = pytest.mark.django_db


def test_a_served_version_and_its_model_stay_and_the_refusal_says_where_it_runs() -> None:
    site = make_site()
    served = site.stable
    with pytest.raises(PolicyRefused, match=f"runs on {site.endpoint.name}") as refused:
        version_delete(actor=ALICE, model_name=served.model.name, number=served.number)
    assert refused.value.code == "version_deployed"
    with pytest.raises(PolicyRefused, match=f"runs on {site.endpoint.name}"):
        model_delete(actor=ALICE, name=served.model.name)
    assert ModelVersion.objects.filter(pk=served.pk).exists()
    assert Model.objects.filter(pk=served.model_id).exists()


def test_a_version_that_nobody_runs_goes() -> None:
    site = make_site()
    idle = make_version(site.stable.model.name, "7.0.0")
    version_delete(actor=ALICE, model_name=idle.model.name, number=idle.number)
    assert not ModelVersion.objects.filter(pk=idle.pk).exists()
