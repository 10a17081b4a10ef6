"""What is observed of Pilothouse itself: it belongs to no team and no environment."""

from __future__ import annotations

from collections.abc import Mapping

from apps.alerts.domain.incidents import Severity
from apps.alerts.services.incidents import Observation


def of_house(
    source: str,
    what: str,
    title: str,
    summary: str,
    facts: Mapping[str, float | str],
    severity: Severity = Severity.TICKET,
) -> Observation:
    """One fault of the house, as ``source`` sees it."""
    return Observation(
        key=f"{source}:{what}", source=source, team_id=None, environment="", subject_type="house", subject_id="",
        subject_name="Pilothouse", severity=severity.value, title=title, summary=summary, facts=facts,
    )  # fmt: skip
