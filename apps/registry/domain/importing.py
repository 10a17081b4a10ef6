"""What an MLflow server tells of its registry, in our forms. Pure: JSON in, plain data out."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from apps.kernel.errors import InvalidInput
from apps.registry.domain.names import IS_PROMPT_TAG, MAX_DESCRIPTION, MAX_SOURCE, MAX_TAG_KEY, MAX_TAG_VALUE
from apps.registry.domain.words import Stage

_STAGES = {"none": Stage.NONE, "staging": Stage.STAGING, "production": Stage.PRODUCTION, "archived": Stage.ARCHIVED}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class ImportState(StrEnum):
    """WAITING for its time, RUNNING, DONE, FAILED (tried often enough), STOPPED by a person."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class RemoteVersion:
    """One version elsewhere. ``is_failed`` says that its registration failed there."""

    number: int
    source: str
    run_id: str
    run_link: str
    model_id: str
    description: str
    stage: Stage
    is_failed: bool
    status_message: str
    created_by: str
    created_at: datetime
    updated_at: datetime
    tags: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class RemoteModel:
    """One model elsewhere, with everything of it."""

    name: str
    description: str
    is_prompt: bool
    created_by: str
    created_at: datetime
    updated_at: datetime
    tags: Mapping[str, str]
    aliases: Mapping[str, int]
    versions: tuple[RemoteVersion, ...] = field(default=())


def remote_model(shown: Mapping[str, Any], versions: list[Mapping[str, Any]]) -> RemoteModel:
    """From ``registered_model`` and ``model_version`` objects. Raises InvalidInput naming what cannot be kept."""
    name = str(shown.get("name") or "")
    tags = _tags(shown)
    found = tuple(sorted((_version(one) for one in versions), key=lambda one: one.number))
    numbers = {one.number for one in found}
    aliases = {str(one.get("alias")): _number(one.get("version")) for one in shown.get("aliases") or []}
    return RemoteModel(
        name=name,
        description=_text(shown, "description", MAX_DESCRIPTION),
        is_prompt=tags.get(IS_PROMPT_TAG, "").lower() == "true",
        created_by=_text(shown, "user_id", 200),
        created_at=_time(shown, "creation_timestamp"),
        updated_at=_time(shown, "last_updated_timestamp"),
        tags=tags,
        aliases={alias: number for alias, number in aliases.items() if number in numbers},
        versions=found,
    )


def reason_left(server: str, uri: str) -> str:
    """Why a version stays without its files, when its server names ``uri`` and does not hand them out."""
    if not uri:
        return f"{server} does not say where the files lie."
    if _local_path(uri):
        return f"{server} keeps the files at {uri[:500]}, a path on its own disk, and does not hand them out."
    return f"{server} says that the files lie at {uri[:500]}, does not hand them out, and nobody here reads that place."


def sources_line(places: Iterable[str]) -> str:
    """The setting that lets workers read all of ``places``, as narrow as one entry per disk or bucket can be.

    "" when none of them is a place that can be named.
    """
    folders: dict[str, list[str]] = {}
    for place in places:
        path, parts = _local_path(place), urlsplit(place)
        if path:
            folders.setdefault("file://", []).append(path)
        elif parts.scheme and parts.netloc and parts.scheme not in {"http", "https"}:
            folders.setdefault(f"{parts.scheme}://{parts.netloc}", []).append(parts.path or "/")
    named = [
        f"{root}{quote(shared) if root == 'file://' else shared}".rstrip("/")
        for root, paths in sorted(folders.items())
        if (shared := posixpath.commonpath(paths)) != "/" or root != "file://"
    ]
    return f"PILOTHOUSE_ARTIFACT_SOURCES={','.join(named)}" if named else ""


def _local_path(uri: str) -> str:
    """The path of a ``file:`` address or an absolute path, else ""."""
    parts = urlsplit(uri)
    if parts.scheme == "file":
        return posixpath.normpath(unquote(parts.path)) if parts.path else ""
    return posixpath.normpath(uri) if uri.startswith("/") else ""


def _version(shown: Mapping[str, Any]) -> RemoteVersion:
    return RemoteVersion(
        number=_number(shown.get("version")),
        source=_text(shown, "source", MAX_SOURCE),
        run_id=_text(shown, "run_id", 64),
        run_link=_text(shown, "run_link", MAX_SOURCE),
        model_id=_text(shown, "model_id", 64),
        description=_text(shown, "description", MAX_DESCRIPTION),
        stage=_STAGES.get(str(shown.get("current_stage") or "None").lower(), Stage.NONE),
        is_failed=shown.get("status") == "FAILED_REGISTRATION",
        status_message=_text(shown, "status_message", 4000) if shown.get("status") == "FAILED_REGISTRATION" else "",
        created_by=_text(shown, "user_id", 200),
        created_at=_time(shown, "creation_timestamp"),
        updated_at=_time(shown, "last_updated_timestamp"),
        tags=_tags(shown),
    )


def _tags(shown: Mapping[str, Any]) -> dict[str, str]:
    found = {}
    for one in shown.get("tags") or []:
        key, value = str(one.get("key") or ""), str(one.get("value") or "")
        if not key or len(key) > MAX_TAG_KEY or len(value) > MAX_TAG_VALUE or "\0" in key + value:
            raise InvalidInput(
                "import_tag", f"The tag {key[:80]!r} cannot be kept: it is empty, too long or holds NUL."
            )
        found[key] = value
    return found


def _text(shown: Mapping[str, Any], name: str, limit: int) -> str:
    text = str(shown.get(name) or "")
    if len(text) > limit or "\0" in text:
        raise InvalidInput("import_text", f"{name} has {len(text):,} characters (at most {limit:,}) or holds NUL.")
    return text


def _number(value: Any) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit() and 0 < int(text[:12]) < 2**31 - 1):
        raise InvalidInput("import_number", f"{text[:40]!r} is no version number.")
    return int(text)


def _time(shown: Mapping[str, Any], name: str) -> datetime:
    """Milliseconds since 1970, kept to the millisecond."""
    try:
        milliseconds = int(shown.get(name) or 0)
        return datetime.fromtimestamp(milliseconds // 1000, UTC).replace(microsecond=milliseconds % 1000 * 1000)
    except (TypeError, ValueError, OverflowError, OSError):
        return _EPOCH
