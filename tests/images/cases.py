"""Images as golden files: ``python -m tests.images.cases`` writes them anew; read the diff."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from apps.targets.images import ci
from apps.targets.images.dockerfile import dockerfile
from apps.targets.images.job import BuildOrder, BuildSettings, build_folder, build_job
from apps.targets.images.lock import Locked, read_lock, server_part
from apps.targets.images.requirements import read_requirements
from apps.targets.images.spec import ImageSpec, ModelFrom

FOLDER = Path(__file__).parent / "golden"
ROOT = Path(__file__).resolve().parents[2]
DIGEST = "sha256:" + "1" * 64
REQUIREMENTS = "mlflow==3.17.2\nscikit-learn==1.9.1\nskops==0.16.0\n"
SPEC = ImageSpec(
    model="late-arrival",
    version="1.1.0",
    key="v1-1-0",
    digest=DIGEST,
    url="https://pilothouse.example.com",
    requirements=read_requirements(REQUIREMENTS),
    python="3.11.7",
)
ORDER = BuildOrder(
    "pilothouse-ib-0",
    "registry.example.com/models/late-arrival:1.1.0",
    b"archive",
    {"app.kubernetes.io/version": "1.1.0"},
)
BUILDS = BuildSettings("registry.example.com/models/{model}", "registry-push", "pilothouse-fetch")


def locked() -> tuple[Locked, ...]:
    """The server's part of the real lock."""
    return server_part(read_lock((ROOT / "requirements" / "runtime.lock").read_text(encoding="utf-8")))


def _manifests() -> str:
    job = build_job(ORDER, BUILDS, manager="pilothouse-builds")
    live = {"metadata": {"uid": "0c6e5b5e-0000-4000-8000-000000000000"}}
    folder = build_folder(ORDER, live, manager="pilothouse-builds")
    return yaml.safe_dump_all([job, folder], sort_keys=True, width=110)


def golden() -> Mapping[str, str]:
    """By file name."""
    files = {f"{way.value}.Dockerfile": dockerfile(replace(SPEC, model_from=way)) for way in ModelFrom}
    return {
        **files,
        "github.yml": ci.github(SPEC, endpoint="late-arrival"),
        "gitlab.yml": ci.gitlab(SPEC, endpoint="late-arrival"),
        "build.yaml": _manifests(),
    }


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, text in golden().items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
