"""Models and versions as the protocol shows them, each with its tags and aliases, in one statement.

These are the reads that every training script and every serving process makes, so they are SQL by hand: the ORM would
take three statements and more time than the database. Each row comes as one JSON text, made by the database and read by
one call: loading twenty columns of two hundred rows one by one takes longer than finding them. Every value is bound;
nothing of a request is in the text. Times are Unix milliseconds. ``teams`` are the teams whose models may be seen
(``selectors.readable_teams``), None all.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import orjson

from apps.kernel.prepared import run_prepared
from apps.registry.models import ModelVersion

Row = Mapping[str, Any]
Teams = Sequence[str] | None
_MS = "(extract(epoch FROM {0}) * 1000)::bigint"
_AS_THEY_ARE: Final = (
    *(
        "id",
        "number",
        "major",
        "minor",
        "patch",
        "created_by",
        "stage",
        "status",
        "description",
        "source_uri",
        "run_id",
    ),
    *("run_link", "status_message", "mlflow_model_id", "trust", "artifact_digest", "storage_uri"),
)
_TAGS = """ARRAY(SELECT json_build_object('key', t.key, 'value', t.value)
          FROM {0} t WHERE t.{1} = {2} ORDER BY t.key) AS tags"""
_COLUMNS = f"""{", ".join(f"v.{name}" for name in _AS_THEY_ARE)}, m.name AS model_name,
       {_MS.format("v.created_at")} AS created, {_MS.format("v.updated_at")} AS updated,
       ARRAY(SELECT a.name FROM registry_alias a WHERE a.version_id = v.id ORDER BY a.name) AS aliases,
       {_TAGS.format("registry_versiontag", "version_id", "v.id")}"""  # noqa: S608  (constants only)
_VERSION = f"SELECT {_COLUMNS} FROM registry_modelversion v JOIN registry_model m ON m.id = v.model_id "  # noqa: S608
_SEEN = " (%s::text[] IS NULL OR m.team_id = ANY(%s::text[])) "
_LIVING = f" m.deleted_at IS NULL AND v.deleted_at IS NULL AND {_SEEN} "
_BY_NUMBER = f"{_VERSION} WHERE m.name = %s AND v.number = %s AND {_LIVING}"
_BY_ID = f"{_VERSION} WHERE v.id = ANY(%s)"
_BY_ALIAS = f"""{_VERSION} JOIN registry_alias wanted ON wanted.version_id = v.id AND wanted.model_id = m.id
 WHERE m.name = %s AND wanted.name = %s AND {_LIVING}"""
_LATEST = f"{_VERSION} WHERE m.name = %s AND {_LIVING} AND v.status <> %s::text ORDER BY v.number DESC LIMIT 1"
_OF_MODEL = f"""{_VERSION} WHERE m.name = %s AND m.kind = 'model' AND {_LIVING}
 ORDER BY v.updated_at DESC, v.number DESC LIMIT %s"""
_LINE = f"""{_VERSION} WHERE m.name = %s AND {_LIVING} AND v.status = 'ready' AND v.major = %s
   AND (%s::int IS NULL OR v.minor = %s) ORDER BY v.minor DESC, v.patch DESC LIMIT 1"""
_AT = f"""{_VERSION} WHERE {_LIVING} AND v.id = (
    SELECT h.to_version_id FROM registry_aliasmove h JOIN registry_model hm ON hm.id = h.model_id
     WHERE hm.name = %s AND hm.deleted_at IS NULL AND h.name = %s AND h.at <= %s
     ORDER BY h.at DESC, h.id DESC LIMIT 1)"""  # noqa: S608  (constants only)
_MODEL = f"""
SELECT m.id, m.xmin::text AS mark, m.name, m.kind,
       {_MS.format("m.created_at")} AS created, {_MS.format("m.updated_at")} AS updated, m.created_by, m.description,
       ARRAY(SELECT json_build_object('alias', a.name, 'version', av.number::text)
          FROM registry_alias a JOIN registry_modelversion av ON av.id = a.version_id
         WHERE a.model_id = m.id ORDER BY a.name) AS aliases,
       {_TAGS.format("registry_modeltag", "model_id", "m.id")},
       ARRAY(SELECT row_to_json(newest) FROM (VALUES ('none'), ('staging'), ('production'), ('archived')) s(stage),
                LATERAL (SELECT {_COLUMNS} FROM registry_modelversion v
                          WHERE v.model_id = m.id AND v.stage = s.stage AND v.deleted_at IS NULL
                            AND v.status <> 'failed_registration'
                          ORDER BY v.number DESC LIMIT 1) newest) AS latest
  FROM registry_model m WHERE m.deleted_at IS NULL AND
"""  # noqa: S608  (constants only)
_MODEL_BY_NAME = f"{_MODEL} m.name = %s AND {_SEEN}"
_MODEL_BY_ID = f"{_MODEL} m.id = ANY(%s)"
_MARKS_AFTER = f"""SELECT m.id, m.name, m.xmin::text FROM registry_model m
 WHERE m.deleted_at IS NULL AND m.kind = %s AND m.name > %s AND {_SEEN} ORDER BY m.name LIMIT %s"""  # noqa: S608  (constants only)


def version_row(model_name: str, number: int, teams: Teams) -> Row | None:
    return _one(_BY_NUMBER, (model_name, number, *_seen(teams))) if number < 2**31 else None


def version_row_by_alias(model_name: str, alias: str, teams: Teams) -> Row | None:
    return _one(_BY_ALIAS, (model_name, alias, *_seen(teams)))


def version_row_at(model_name: str, alias: str, moment: datetime, teams: Teams) -> Row | None:
    """Where the alias pointed at ``moment``."""
    return _one(_AT, (*_seen(teams), model_name, alias, moment))


def version_row_of_line(model_name: str, major: int, minor: int | None, teams: Teams) -> Row | None:
    """The newest ready version of a major line, or of one of its minor lines."""
    return _one(_LINE, (model_name, *_seen(teams), major, minor, minor))


def version_row_latest(model_name: str, teams: Teams) -> Row | None:
    """The highest number, versions that failed left out."""
    return _one(_LATEST, (model_name, *_seen(teams), "failed_registration"))


def version_row_made(version: ModelVersion, tags: Mapping[str, str]) -> Row:
    """A version that was made a moment ago, with these tags, as the same row; reads ``model`` and no database."""
    row = {name: getattr(version, name) for name in _AS_THEY_ARE}
    times = {"created": _milliseconds(version.created_at), "updated": _milliseconds(version.updated_at)}
    shown = [{"key": key, "value": tags[key]} for key in sorted(tags)]
    return {**row, **times, "model_name": version.model.name, "aliases": [], "tags": shown}


def version_rows_of(model_name: str, limit: int, teams: Teams) -> list[Row]:
    """A model's versions, the one that changed last first; none for prompts."""
    return _all(_OF_MODEL, (model_name, *_seen(teams), limit))


def version_rows(ids: Sequence[str]) -> list[Row]:
    """In the order of ``ids``, which whoever asks may see."""
    return _in_order(_BY_ID, ids)


def model_row(name: str, teams: Teams) -> Row | None:
    return _one(_MODEL_BY_NAME, (name, *_seen(teams)))


@dataclass(frozen=True, slots=True)
class Mark:
    """A model, and what changes whenever anything that its row shows does (migration 0008)."""

    id: str
    name: str
    mark: str


def model_marks_after(name: str, kind: str, limit: int, teams: Teams) -> list[Mark]:
    """By name, those that stand after ``name`` ("" for the first)."""
    return [Mark(*row) for row in run_prepared(_MARKS_AFTER, (kind, name, *_seen(teams), limit))]


def model_rows(ids: Sequence[str]) -> list[Row]:
    """In the order of ``ids``, which whoever asks may see."""
    return _in_order(_MODEL_BY_ID, ids)


def _milliseconds(at: datetime) -> int:
    """Rounded as the database rounds."""
    seconds = int(at.replace(microsecond=0).timestamp())
    return seconds * 1000 + (at.microsecond + 500) // 1000


def _in_order(sql: str, ids: Sequence[str]) -> list[Row]:
    if not ids:
        return []
    found = {row["id"]: row for row in _all(sql, (list(ids),))}
    return [found[one] for one in ids if one in found]


def _seen(teams: Teams) -> tuple[list[str] | None, list[str] | None]:
    named = None if teams is None else list(teams)
    return named, named


def _one(sql: str, values: tuple[Any, ...]) -> Row | None:
    rows = _all(sql, values)
    return rows[0] if rows else None


def _all(sql: str, values: tuple[Any, ...]) -> list[Row]:
    found = run_prepared(f"SELECT row_to_json(r)::text FROM ({sql}) r", values)  # noqa: S608  (constants only)
    return [orjson.loads(text) for (text,) in found]
