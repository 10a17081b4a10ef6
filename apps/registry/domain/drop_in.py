"""Why a version cannot stand in for another, in the one sentence that pages, API and CLI say. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from apps.registry.domain.signature import Signature, What, breaking_differences


def breaks_sentence(stable: str, candidate: str, before: Signature, after: Signature) -> str:
    """ "2.0.0 cannot stand in for 1.0.0. Callers of 1.0.0 do not send 'airline' (string), which it requires; it no
    longer reads 'carrier'." Every field that breaks a caller, and every one that is not read any more, since that is
    often the same field under another name. Empty when it can stand in."""
    problems = breaking_differences(before, after)
    if not problems:
        return ""
    new = [f"'{problem.column}' ({problem.after})" for problem in problems if problem.what is What.NEW_REQUIRED]
    gone = [f"'{name}'" for name in before.inputs if name not in after.inputs]
    said = [f"{candidate} cannot stand in for {stable}."]
    if new:
        last = f"; it no longer reads {_joined(gone)}" if gone else ""
        said.append(f"Callers of {stable} do not send {_joined(new)}, which it requires{last}.")
    said += [str(problem) for problem in problems if problem.what is not What.NEW_REQUIRED]
    if gone and not new:
        said.append(f"It no longer reads {_joined(gone)}.")
    return " ".join(said)


def ways_sentence(candidate: str) -> str:
    """What one can do then; the wizard says the same with the commands."""
    return f"Register a version that takes today's calls, or give {candidate} an endpoint of its own."


def _joined(parts: Iterable[str]) -> str:
    found = list(parts)
    return found[0] if len(found) == 1 else f"{', '.join(found[:-1])} and {found[-1]}"
