"""Why a version cannot stand in at an endpoint, said in one sentence instead of one per column."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from apps.registry.domain.signature import Difference, What
from apps.registry.selectors import drop_in_problems

if TYPE_CHECKING:
    from apps.registry.models import ModelVersion
    from apps.targets.models import Endpoint


def unfit_sentence(version: ModelVersion, endpoint: Endpoint | None) -> str:
    """Empty when it fits, or when nothing is known yet that it would have to fit."""
    if version.status != "ready":
        return version.status_message or f"It is not ready ({version.status.replace('_', ' ')})."
    if endpoint is None or endpoint.stable_version is None or endpoint.model_id != version.model_id:
        return ""
    if endpoint.stable_version_id == version.pk:
        return f"It already serves {endpoint.name}."
    return breaks_sentence(endpoint.stable_version, version)


def breaks_sentence(stable: ModelVersion, candidate: ModelVersion) -> str:
    """ "Callers of 1.0.0 do not send 'airline' and 'visib', which it requires; it no longer reads 'carrier'." """
    problems = drop_in_problems(stable, candidate)
    if not problems:
        return ""
    missing = [problem.column for problem in problems if problem.what is What.NEW_REQUIRED]
    gone = [name for name in _inputs(stable) if name not in set(_inputs(candidate))]
    said = []
    if missing:
        last = f"; it no longer reads {_named(gone)}" if gone else ""
        said.append(f"Callers of {stable.semver} do not send {_named(missing)}, which it requires{last}.")
    return " ".join([*said, *(str(problem) for problem in problems if _is_other(problem))])


def _is_other(problem: Difference) -> bool:
    return problem.what is not What.NEW_REQUIRED


def _inputs(version: ModelVersion) -> list[str]:
    return [str(column["name"]) for column in version.signature.get("inputs", [])]


def _named(names: Iterable[str]) -> str:
    quoted = [f"'{name}'" for name in names]
    return quoted[0] if len(quoted) == 1 else f"{', '.join(quoted[:-1])} and {quoted[-1]}"
