"""Rows to the JSON of the MLflow protocol: numbers are numbers, empty lists are left out, absent texts are ""."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from apps.registry.domain.names import SEMVER_TAG
from apps.registry.models import Webhook


def version_shape(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``selectors.rows``."""
    tags = row["tags"]
    if row["major"] is not None:
        tags = [*tags, {"key": SEMVER_TAG, "value": f"{row['major']}.{row['minor']}.{row['patch']}"}]
    shape = {
        "name": row["model_name"],
        "version": str(row["number"]),
        "creation_timestamp": row["created"],
        "last_updated_timestamp": row["updated"],
        "user_id": row["created_by"],
        "current_stage": row["stage"].capitalize(),
        "description": row["description"],
        "source": row["source_uri"],
        "run_id": row["run_id"],
        "status": row["status"].upper(),
        "status_message": row["status_message"],
        "run_link": row["run_link"],
    }
    if tags:
        shape["tags"] = tags
    if row["aliases"]:
        shape["aliases"] = row["aliases"]
    if row["mlflow_model_id"]:
        shape["model_id"] = row["mlflow_model_id"]
    return shape


def model_shape(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of ``selectors.rows``."""
    shape = {
        "name": row["name"],
        "creation_timestamp": row["created"],
        "last_updated_timestamp": row["updated"],
        "user_id": row["created_by"],
        "description": row["description"],
    }
    if row["latest"]:
        shape["latest_versions"] = [version_shape(one) for one in row["latest"]]
    if row["tags"]:
        shape["tags"] = row["tags"]
    if row["aliases"]:
        shape["aliases"] = row["aliases"]
    return shape


def webhook_shape(webhook: Webhook) -> dict[str, Any]:
    """Never with its secret."""
    return {
        "webhook_id": webhook.id,
        "name": webhook.name,
        "description": webhook.description,
        "url": webhook.url,
        "events": [{key: text.upper() for key, text in event.items()} for event in webhook.events],
        "status": webhook.status.upper(),
        "creation_timestamp": int(webhook.created_at.timestamp() * 1000),
        "last_updated_timestamp": int(webhook.updated_at.timestamp() * 1000),
    }
