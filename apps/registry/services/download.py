"""Where a client fetches a version's bytes from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.registry.domain.words import Trust
from apps.registry.models import ModelVersion
from apps.registry.services.ingest_store import artifact_url, is_in_store

MAX_COPIES = 20


def download_uri(row: Mapping[str, Any]) -> str:
    """Where the verified bytes lie; without such, what the author wrote (followed through copies of versions).

    ``row`` is one of ``selectors.rows``.
    """
    if row["trust"] == Trust.VERIFIED and row["storage_uri"]:
        is_proxied = is_in_store(str(row["storage_uri"]))
        return artifact_url(str(row["artifact_digest"])) if is_proxied else str(row["storage_uri"])
    source, version_id = str(row["source_uri"]), row["id"]
    for _ in range(MAX_COPIES):
        found = ModelVersion.everything.filter(pk=version_id, parent__isnull=False)
        parent = found.values_list("parent__source_uri", "parent_id").first()
        if parent is None or not source.startswith("models:/") or source.startswith("models:/m-"):
            return source
        source, version_id = parent
    return source
