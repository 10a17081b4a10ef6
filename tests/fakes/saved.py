"""A version whose files mlflow wrote: a model of one column ``x``, made from its code."""

from __future__ import annotations

import warnings
from pathlib import Path

from apps.registry.drivers.artifacts import read_artifact
from apps.registry.models import ModelVersion
from tests.fakes.registry import make_version


def saved_version(model: str, semver: str, folder: Path, code: Path) -> ModelVersion:
    """In ``folder``, with its real digest."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import mlflow.pyfunc
        from mlflow.models import ModelSignature
        from mlflow.types.schema import ColSpec, DataType, Schema

        signature = ModelSignature(inputs=Schema([ColSpec(DataType["double"], "x")]))
        mlflow.pyfunc.save_model(folder, python_model=str(code), signature=signature, pip_requirements=["mlflow"])
    found = read_artifact(folder)
    version = make_version(model, semver, source_uri=found.uri)
    ModelVersion.objects.filter(pk=version.pk).update(artifact_digest=found.digest)
    version.refresh_from_db()
    return version
