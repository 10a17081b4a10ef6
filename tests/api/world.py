"""A small world to call the API on: two versions of a model on real files, a fake target, an endpoint, a rollout."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from apps.kernel.actor import SYSTEM
from apps.registry.services.register import model_create, version_register
from apps.rollouts.models import Rollout
from apps.rollouts.services.lifecycle import rollout_start
from apps.slo.services import evaluate
from apps.targets.models import Endpoint
from apps.targets.services.connect import endpoint_create, target_create, target_probe


@dataclass
class World:
    folder: Path
    endpoint: Endpoint
    versions: dict[str, Any]

    def start(self, version: str = "1.1.0", **options: Any) -> Rollout:
        """A rollout to ``version``, by the services."""
        return rollout_start(
            actor=SYSTEM,
            endpoint_id=self.endpoint.pk,
            version_id=self.versions[version].pk,
            **{"strategy": "canary", "profile": "fast", **options},
        )

    def with_second_endpoint(self) -> World:
        """Endpoint ``second`` of the same model, on a target ``there``."""
        connection = {"world": f"{self.folder.name}-2"}
        target = target_create(actor=SYSTEM, name="there", kind="fake", connection=connection)
        target_probe(target_id=target.pk)
        endpoint_create(
            actor=SYSTEM,
            name="second",
            target_id=target.pk,
            model_id=self.endpoint.model_id,
            version_id=self.versions["1.0.0"].pk,
        )
        return self


def artifact(folder: Path, content: str, extra_column: bool = False) -> Path:
    """A folder as mlflow writes one, as far as registration reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    columns = [{"type": "double", "name": "dep_delay", "required": True}]
    columns += [{"type": "string", "name": "tail", "required": True}] if extra_column else []
    described = {
        "flavors": {"python_function": {"loader_module": "x"}},
        "signature": {"inputs": json.dumps(columns), "outputs": json.dumps([{"type": "long"}])},
    }
    (folder / "MLmodel").write_text(yaml.safe_dump(described))
    (folder / "model.txt").write_text(content)
    return folder


def make_world(folder: Path) -> World:
    """Model ``late-arrival`` 1.0.0, 1.1.0 and 2.0.0 (another schema); target ``here``; endpoint ``late-arrival``.

    In the product a name is given once; here each test has it, and a worker's memory goes by names: it begins anew.
    """
    evaluate._MEMORY = evaluate.Memory()
    model = model_create(actor=SYSTEM, name="late-arrival")
    versions = {}
    for semver in ("1.0.0", "1.1.0", "2.0.0"):
        path = artifact(folder / semver, semver, extra_column=semver == "2.0.0")
        versions[semver] = version_register(actor=SYSTEM, model_name=model.name, semver=semver, path=path)
    target = target_create(actor=SYSTEM, name="here", kind="fake", connection={"world": folder.name})
    target_probe(target_id=target.pk)
    endpoint = endpoint_create(
        actor=SYSTEM,
        name="late-arrival",
        target_id=target.pk,
        model_id=model.pk,
        version_id=versions["1.0.0"].pk,
    )
    return World(folder, endpoint, versions)
