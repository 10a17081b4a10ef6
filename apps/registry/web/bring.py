"""How bytes come here: the lines to copy for a version whose author named a place that nobody here can read."""

from __future__ import annotations

import re

from django.conf import settings

from apps.registry.models import ModelVersion
from apps.registry.services.ingest import UPLOADS
from apps.registry.services.ingest_store import PROXY_PATH


def bring_lines(version: ModelVersion) -> str:
    """A shell's lines that send the files of a folder and take them in. Reads ``version.model``.

    One key for both: what somebody has uploaded is taken in for them only.
    """
    area = _address(f"{version.model.name}-v{version.number}")
    return (
        "export PILOTHOUSE_TOKEN=plh_…\n"
        "cd model   # the folder that save_model wrote, with MLmodel in it\n"
        "find . -type f | while read -r file; do\n"
        '  curl --fail -H "Authorization: Bearer $PILOTHOUSE_TOKEN" -T "$file" \\\n'
        f'    "{area}/${{file#./}}"\n'
        "done\n"
        f"curl --fail -X POST {_base()}/api/v1/models/{version.model.name}/versions/{version.reference}/ingest \\\n"
        '  -H "Authorization: Bearer $PILOTHOUSE_TOKEN" -H "Content-Type: application/json" \\\n'
        f'  -d \'{{"source": "{area}"}}\''
    )


def artifact_location_lines(model_name: str) -> str:
    """What lets the bytes come along with every later registration, whatever the tracking store."""
    return (
        f'mlflow.create_experiment("{model_name}", artifact_location=\n'
        f'    "{_address(model_name)}")\n'
        f'mlflow.set_experiment("{model_name}")'
    )


def _base() -> str:
    return str(settings.PILOTHOUSE_BASE_URL).rstrip("/")


def _address(name: str) -> str:
    folder = re.sub(r"[^A-Za-z0-9._-]+", "-", name)[:60].strip("-.") or "model"
    return f"{_base()}{PROXY_PATH}/{UPLOADS}/{folder}"
