"""Models, versions and aliases from a CI job: found, tagged, staged, renamed, deleted."""

from __future__ import annotations

import json

import pytest

from apps.kernel.actor import SYSTEM
from apps.registry.models import Alias, Model, ModelVersion
from apps.registry.services.aliases import alias_set
from apps.registry.services.catalogue import model_register
from tests.api.world import World
from tests.cli.conftest import Program

pytestmark = pytest.mark.django_db(transaction=True)
NAME = "late-arrival"


def test_tags_are_set_and_taken_away_in_one_command(world: World, program: Program) -> None:
    pilothouse = program("alice")
    done = pilothouse("model", "tag", NAME, "owner=risk", "formula=a=b", "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["tags"] == {"owner": "risk", "formula": "a=b"}
    done = pilothouse("models", "tag", NAME, "owner=fraud", "--remove", "formula")
    assert (done.returncode, "owner=fraud" in done.stdout, "formula" in done.stdout) == (0, True, False)
    done = pilothouse("versions", "tag", NAME, "latest", "gate=passed", "-o", "json")
    assert json.loads(done.stdout)["tags"] == {"gate": "passed"}
    for wrong in (("nothing",), ("=x",), ()):
        done = pilothouse("model", "tag", NAME, *wrong)
        assert (done.returncode, "KEY=VALUE" in done.stderr) == (2, True)
    assert pilothouse("model", "tag", NAME, "../x=y").returncode == 2
    found = pilothouse("versions", "list", "--filter", "tags.gate = 'passed'", "-o", "json")
    assert [one["version"] for one in json.loads(found.stdout)] == ["2.0.0"]
    assert NAME in pilothouse("models", "list", "--filter", "tags.owner = 'fraud'").stdout
    assert pilothouse("models", "list", "--filter", "tags.owner").returncode == 2


def test_an_alias_is_pointed_and_taken_away(world: World, program: Program) -> None:
    pilothouse = program("alice")
    assert pilothouse("model", "alias", NAME, "newest", "s1").returncode == 0
    assert Alias.objects.get(name="newest").version.semver == "1.1.0"
    assert pilothouse("aliases", "remove", NAME, "newest", "--expected-version", "1.0.0").returncode == 7
    assert pilothouse("aliases", "remove", NAME, "newest").returncode == 0
    assert not Alias.objects.filter(name="newest").exists()
    alias_set(actor=SYSTEM, model_name=NAME, alias="champion", number=1)
    refused = pilothouse("aliases", "remove", NAME, "champion")
    assert (refused.returncode, "somebody else decides it" in refused.stderr) == (6, True)


def test_a_model_is_renamed_and_deleted_unless_it_serves(world: World, program: Program) -> None:
    pilothouse = program("alice")
    model_register(actor=SYSTEM, name="old")
    rehearsed = pilothouse("model", "rename", "old", "new", "--dry-run")
    assert (rehearsed.returncode, "nothing was stored" in rehearsed.stderr) == (0, True)
    assert Model.objects.filter(name="old").exists()
    assert pilothouse("model", "rename", "old", "new").returncode == 0
    assert pilothouse("model", "describe", "new", "What it is for.").returncode == 0
    assert "What it is for." in pilothouse("model", "show", "new").stdout
    assert pilothouse("model", "rename", "new", NAME).returncode == 7
    assert pilothouse("model", "delete", "new").returncode == 2  # a reason is missing
    assert pilothouse("model", "delete", "new", "--reason", "over").returncode == 0
    assert not Model.objects.filter(name="new").exists()
    refused = pilothouse("model", "delete", NAME, "--reason", "over")
    assert (refused.returncode, "runs on late-arrival" in refused.stderr) == (8, True)
    assert pilothouse("versions", "stage", NAME, "1.1.0", "Staging").returncode == 0
    assert pilothouse("versions", "delete", NAME, "2.0.0", "--reason", "broken").returncode == 0
    assert sorted(ModelVersion.objects.values_list("number", "stage")) == [(1, "none"), (2, "staging")]
