"""Model versions, their tags and stages."""

from __future__ import annotations

from typing import Any

from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput, NotFound
from apps.registry.api.mlflow.asked import Asked
from apps.registry.api.mlflow.shapes import version_shape
from apps.registry.domain.names import SEMVER_TAG
from apps.registry.domain.words import Stage, VersionStatus
from apps.registry.selectors import readable_teams, rows
from apps.registry.selectors.search import only_model_asked, search_versions
from apps.registry.services import versions
from apps.registry.services.download import download_uri

Answer = dict[str, Any]


def create(actor: Actor, asked: Asked) -> Answer:
    name = asked.text("name")
    entry = versions.Entry(
        source=asked.text("source"),
        run_id=asked.text("run_id", ""),
        run_link=asked.text("run_link", ""),
        mlflow_model_id=asked.text("model_id", ""),
        description=asked.text("description", ""),
        tags=asked.tags(),
    )
    made = versions.version_create(actor=actor, model_name=name, entry=entry)
    kept = {key: value for key, value in entry.tags.items() if key != SEMVER_TAG}
    return {"model_version": version_shape(rows.version_row_made(made, kept))}


def get(actor: Actor, asked: Asked) -> Answer:
    return _version(actor, asked.text("name"), asked.version())


def update(actor: Actor, asked: Asked) -> Answer:
    name, number = asked.text("name"), asked.version()
    if asked.has("description"):
        description = asked.text("description", "")
        versions.version_describe(actor=actor, model_name=name, number=number, description=description)
    return _version(actor, name, number)


def delete(actor: Actor, asked: Asked) -> Answer:
    versions.version_delete(actor=actor, model_name=asked.text("name"), number=asked.version())
    return {}


def transition(actor: Actor, asked: Asked) -> Answer:
    name, number = asked.text("name"), asked.version()
    stage, archive = _stage(asked.text("stage")), asked.flag("archive_existing_versions")
    versions.version_stage(actor=actor, model_name=name, number=number, stage=stage, archive_existing=archive)
    return _version(actor, name, number)


def latest(actor: Actor, asked: Asked) -> Answer:
    """The newest of each stage asked for, of every stage when none is; versions that failed are nobody's latest."""
    name, wanted = asked.text("name"), {_stage(text) for text in asked.texts("stages")}
    row = rows.model_row(name, readable_teams(actor))
    if row is None:
        raise NotFound("model_unknown", f"There is no model {name}.", extra={"model": name})
    found = [one for one in row["latest"] if not wanted or one["stage"] in wanted]
    return {"model_versions": [version_shape(one) for one in found]}


def search(actor: Actor, asked: Asked) -> Answer:
    text, order_by, token = asked.text("filter", ""), asked.texts("order_by"), asked.text("page_token", "")
    limit = asked.number("max_results", 10_000, 1, 200_000)
    name = only_model_asked(text=text, order_by=order_by, token=token)
    if name:
        found = rows.version_rows_of(name, limit + 1, readable_teams(actor))
        if len(found) <= limit:
            return {"model_versions": [version_shape(row) for row in found]}
    page = search_versions(actor=actor, text=text, order_by=order_by, limit=limit, token=token)
    answer: Answer = {"model_versions": [version_shape(row) for row in rows.version_rows(page.ids)]}
    return {**answer, "next_page_token": page.next_token} if page.next_token else answer


def download(actor: Actor, asked: Asked) -> Answer:
    """Refused for a version that failed: its bytes are not what anybody should load."""
    row = _row(actor, asked.text("name"), asked.version())
    if row["status"] == VersionStatus.FAILED:
        detail = f"Version {row['number']} of {row['model_name']} failed its registration: {row['status_message']}"
        raise InvalidInput("version_failed", detail)
    return {"artifact_uri": download_uri(row)}


def tag_set(actor: Actor, asked: Asked) -> Answer:
    name, number, key = asked.text("name"), asked.version(), asked.text("key")
    versions.version_tag_set(actor=actor, model_name=name, number=number, key=key, value=asked.text("value", ""))
    return {}


def tag_delete(actor: Actor, asked: Asked) -> Answer:
    name, number = asked.text("name"), asked.version()
    versions.version_tag_remove(actor=actor, model_name=name, number=number, key=asked.text("key"))
    return {}


def _row(actor: Actor, name: str, number: int) -> rows.Row:
    row = rows.version_row(name, number, readable_teams(actor))
    if row is None:
        extra = {"model": name, "version": number}
        raise NotFound("version_unknown", f"{name} has no version {number}.", extra=extra)
    return row


def _version(actor: Actor, name: str, number: int) -> Answer:
    return {"model_version": version_shape(_row(actor, name, number))}


def _stage(text: str) -> Stage:
    try:
        return Stage(text.lower())
    except ValueError as error:
        named = ", ".join(stage.value.capitalize() for stage in Stage)
        detail = f"Invalid Model Version stage: {text}. Value must be one of {named}."
        raise InvalidInput.at("/stage", "bad_stage", detail) from error
