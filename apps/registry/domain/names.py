"""What models, aliases and tags may be called, as the MLflow client knows it, with its texts."""

from __future__ import annotations

import json
import posixpath
import re
from datetime import UTC, datetime

from apps.kernel.errors import InvalidInput

MAX_NAME = 256
MAX_TAG_KEY = 250
MAX_TAG_VALUE = 100_000
MAX_ALIAS = 255
MAX_SOURCE = 2_000
MAX_DESCRIPTION = 100_000
SEMVER_TAG = "pilothouse.semver"
"""Read-only on a version; on creation the semver that its author wants."""
IS_PROMPT_TAG = "mlflow.prompt.is_prompt"
_TAG_KEY = re.compile(r"[/\w.\- :]+")
_ALIAS = re.compile(r"[\w\-]+")
_COUNTED = re.compile(r"[vV]\d+")
_LINE = re.compile(r"s(\d{1,9})(?:-(\d{1,9}))?", re.ASCII)
_AT = re.compile(r"([\w\-]+?)__at__(\d{8}T\d{6}Z)", re.ASCII)


def check_model_name(name: str, field: str = "name") -> None:
    """Raises InvalidInput."""
    if not name.strip():
        raise _fault(field, f"Missing value for required parameter '{field}'.")
    if "/" in name or ":" in name:
        raise _fault(field, f"Invalid model name '{name}'. Names cannot contain '/' or ':'.")
    if posixpath.normpath(name) != name or name in {".", ".."}:
        raise _fault(
            field,
            f"Invalid value {json.dumps(name)} for parameter '{field}' supplied: Names may be treated as files in "
            f"certain cases, and must not resolve to other names when treated as such.",
        )
    check_text(name, field, MAX_NAME)


def check_text(text: str, field: str, limit: int) -> None:
    """Raises InvalidInput for a text that is too long or that PostgreSQL cannot keep."""
    if "\0" in text:
        raise _fault(field, f"'{field}' holds a NUL character.")
    if len(text) > limit:
        raise _fault(field, f"'{field}' exceeds the maximum length of {limit} characters")


def check_tag(key: str, value: str) -> None:
    """Raises InvalidInput."""
    if not _TAG_KEY.fullmatch(key):
        raise _fault(
            "key",
            f"Invalid value {json.dumps(key)} for parameter 'key' supplied: Names may only contain alphanumerics, "
            "underscores (_), dashes (-), periods (.), spaces ( ), colons (:) and slashes (/).",
        )
    if posixpath.normpath(key) != key or key == "." or key.startswith(("..", "/")):
        raise _fault(
            "key",
            f"Invalid value {json.dumps(key)} for parameter 'key' supplied: Names may be treated as files in certain "
            "cases, and must not resolve to other names when treated as such.",
        )
    check_text(key, "key", MAX_TAG_KEY)
    check_text(value, "value", MAX_TAG_VALUE)


def check_alias(alias: str) -> None:
    """Raises InvalidInput for what no alias can be called, whether or not it exists."""
    if not alias:
        raise _fault("alias", "Registered model alias name cannot be empty.")
    if not _ALIAS.fullmatch(alias):
        raise _fault(
            "alias",
            f"Invalid alias name: '{alias}'. Names may only contain alphanumerics, underscores (_), and dashes (-).",
        )
    check_text(alias, "Registered model alias name", MAX_ALIAS)


def check_new_alias(alias: str) -> None:
    """Raises InvalidInput also for the names that stand for something computed."""
    check_alias(alias)
    if alias.lower() == "latest":
        raise _fault("alias", "'latest' alias name (case insensitive) is reserved.")
    if _COUNTED.fullmatch(alias):
        raise _fault("alias", f"Version alias name '{alias}' is reserved.")
    if _LINE.fullmatch(alias) or "__at__" in alias:
        raise _fault("alias", f"Alias name '{alias}' is reserved: it is computed from semvers or from the history.")


def version_line(alias: str) -> tuple[int, int | None] | None:
    """``s2`` -> (2, None), ``s2-1`` -> (2, 1): the newest version of a line. None for other aliases."""
    match = _LINE.fullmatch(alias)
    if match is None:
        return None
    return int(match.group(1)), int(match.group(2)) if match.group(2) is not None else None


def alias_at(alias: str) -> tuple[str, datetime] | None:
    """``champion__at__20261101T120000Z`` -> the alias and the instant. None for other aliases.

    Raises InvalidInput for an instant that no calendar has.
    """
    match = _AT.fullmatch(alias)
    if match is None:
        return None
    try:
        return match.group(1), datetime.strptime(match.group(2), "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise _fault("alias", f"'{match.group(2)}' is no instant; write it as 20261101T120000Z (UTC).") from error


def _fault(field: str, detail: str) -> InvalidInput:
    return InvalidInput.at(f"/{field}", "bad_value", detail)
