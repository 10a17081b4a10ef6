"""How versions are said: columns with their ranges, badges, the story of verification, the lines to copy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings

from apps.kernel.errors import DomainError
from apps.registry.domain.formats import LABELS, PICKLES, Format
from apps.registry.domain.manifest import Entry
from apps.registry.domain.words import Stage, Trust, VersionStatus
from apps.registry.models import ModelVersion
from apps.registry.services.ingest_store import artifact_tree, is_in_store

METRICS_SHOWN = 3
FILES_SHOWN = 200


@dataclass(frozen=True, slots=True)
class Badge:
    """A format in one word; ``level`` is attention for what runs code when it is loaded."""

    word: str
    level: str
    why: str


@dataclass(frozen=True, slots=True)
class Story:
    """Where the check of a version's bytes stands: the sentence, and the lines that go on from there ("" for none)."""

    level: str
    word: str
    sentence: str
    line: str = ""


def called(version: ModelVersion | None) -> str:
    """How a version is written everywhere: its semver, or "v6" after its number while it has none; "" for none."""
    if version is None:
        return ""
    return version.semver or f"v{version.number}"


def is_loadable(version: ModelVersion) -> bool:
    """Whether its bytes can be had from here: read, and found to be what they should be."""
    return version.status == VersionStatus.READY and version.trust == Trust.VERIFIED


def columns_of(version: ModelVersion) -> list[dict[str, Any]]:
    """The inputs with their declared constraints in words."""
    return inputs_shown(version.signature, version.input_constraints)


def inputs_shown(signature: Mapping[str, Any], constraints: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for column in signature.get("inputs", []):
        declared = constraints.get(column["name"], {})
        rows.append({**column, "nullable": declared.get("nullable", False), "allowed": _allowed(declared)})
    return rows


def common_metrics(versions: Iterable[ModelVersion]) -> list[str]:
    """The metrics that most of these versions have, at most METRICS_SHOWN, by name."""
    counted = Counter(name for one in versions for name, value in one.metrics.items() if isinstance(value, int | float))
    most = sorted(counted, key=lambda name: (-counted[name], name))[:METRICS_SHOWN]
    return sorted(most)


def badge_of(version: ModelVersion) -> Badge | None:
    """None while nobody has looked at the files."""
    if version.format not in set(Format):
        return None
    found = Format(version.format)
    if found in PICKLES:
        return Badge(LABELS[found], "attention", "Loading it runs code; its imports are listed below.")
    if found is Format.PYTHON_SOURCE:
        return Badge(LABELS[found], "attention", "It brings its own code, which runs when it is loaded.")
    return Badge(LABELS[found], "ok", "Loading it runs no code of its own.")


def pickles_of(version: ModelVersion) -> list[Mapping[str, Any]]:
    """What the pickles of a version import, by file."""
    found: list[Mapping[str, Any]] = version.inspection.get("pickles", [])
    return found


def files_of(version: ModelVersion) -> tuple[Sequence[Entry], int, str]:
    """The files of the artifact (the first FILES_SHOWN), how many there are, and why none can be shown."""
    if not version.artifact_digest:
        return (), 0, "Nobody here has read its files yet."
    if not is_in_store(version.storage_uri):
        return (), 0, f"The files lie at {version.storage_uri or version.source_uri}, not in the store."
    try:
        entries = artifact_tree(version.artifact_digest).entries
    except DomainError as fault:
        return (), 0, fault.detail
    return entries[:FILES_SHOWN], len(entries), ""


def story_of(version: ModelVersion) -> Story:
    """The one sentence on how far one can rely on the bytes, and the way on. Reads ``version.model``."""
    if version.status == VersionStatus.PENDING:
        sentence = "A worker is reading its files: digest, signature, format. This page follows by itself."
        return Story("progressing", "being checked", sentence)
    if version.status == VersionStatus.FAILED:
        sentence = f"{version.status_message or 'Its registration failed.'} It can never be deployed."
        return Story("bad", "refused", f"{sentence} Repair the model and register it again: it gets the next number.")
    if version.trust == Trust.MISSING:
        sentence = version.status_message or "Its files were looked for and are not there, or were changed."
        return Story("bad", "files missing", f"{sentence} Bring the same bytes here again.", _ingest_line(version))
    if version.trust == Trust.UNVERIFIED:
        sentence = (
            version.status_message or f"Nobody here has seen its bytes; {version.source_uri} is what its author wrote."
        )
        return Story(
            "unknown", "unverified", f"{sentence} It cannot be deployed until they are here.", _ingest_line(version)
        )
    if is_in_store(version.storage_uri):
        return Story("ok", "verified", "Every file was read and is kept in the store under its digest.")
    return Story("ok", "verified", "Every file was read. They stay where they are and are compared before each use.")


def story_brief(version: ModelVersion) -> tuple[str, str]:
    """(level, word) for tables, where the longer form's message is not loaded."""
    if version.status == VersionStatus.PENDING:
        return "progressing", "being checked"
    if version.status == VersionStatus.FAILED:
        return "bad", "refused"
    words = {Trust.VERIFIED.value: ("ok", "verified"), Trust.MISSING.value: ("bad", "files missing")}
    return words.get(version.trust, ("unknown", "unverified"))


def stage_word(version: ModelVersion) -> str:
    return "" if version.stage == Stage.NONE else version.stage.capitalize()


def register_lines(model_name: str) -> str:
    """The three lines with which any MLflow training script registers here."""
    return (
        f"export MLFLOW_REGISTRY_URI={settings.PILOTHOUSE_BASE_URL}\n"
        "export MLFLOW_TRACKING_TOKEN=plh_…\n"
        f'python train.py   # mlflow.sklearn.log_model(…, registered_model_name="{model_name}")'
    )


def load_lines(reference: str) -> str:
    """``reference`` is ``name@alias`` or ``name/number``."""
    return (
        "import mlflow\n\n"
        f'mlflow.set_registry_uri("{settings.PILOTHOUSE_BASE_URL}")\n'
        f'model = mlflow.pyfunc.load_model("models:/{reference}")'
    )


def _ingest_line(version: ModelVersion) -> str:
    place = f"{settings.PILOTHOUSE_BASE_URL}/api/v1/models/{version.model.name}/versions/{version.number}/ingest"
    return (
        f"curl -X POST {place} \\\n"
        '  -H "Authorization: Bearer plh_…" -H "Content-Type: application/json" \\\n'
        '  -d \'{"source": "…"}\''
    )


def _allowed(declared: Mapping[str, Any]) -> str:
    values = declared.get("values")
    if values:
        shown = ", ".join(str(value) for value in values[:8])
        return shown if len(values) <= 8 else f"{shown} and {len(values) - 8} more"
    low, high = declared.get("min"), declared.get("max")
    if low is not None and high is not None:
        return f"{low:g} to {high:g}"
    if low is not None:
        return f"at least {low:g}"
    return f"at most {high:g}" if high is not None else "any value of the type"
