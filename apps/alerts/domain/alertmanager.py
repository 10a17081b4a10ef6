"""What a Prometheus Alertmanager posts (webhook_config, payload version 4), item by item. Pure.

https://prometheus.io/docs/alerting/latest/configuration/#webhook_config
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from apps.alerts.domain.incidents import Severity
from apps.alerts.domain.messages import one_line
from apps.kernel.errors import InvalidInput

VERSION: Final = "4"
MOST: Final = 1000
MOST_LABELS: Final = 64
TEXT_LENGTH: Final = 4000
LABELS: Final[Mapping[str, str]] = {
    "severity": "severity", "endpoint": "endpoint", "environment": "environment", "team": "team",
}  # fmt: skip
"""What is read, and the label that it is read from unless the receiver names another."""
PAGES: Final = ("page", "critical")
REPEAT_SECONDS: Final = 4 * 3600
"""Alertmanager's own default of repeat_interval."""
LEAST_REPEAT, MOST_REPEAT = 60, 7 * 86_400
ENVIRONMENTS: Final = {"dev": "development", "prod": "production", "stage": "staging"}


@dataclass(frozen=True, slots=True)
class Item:
    """One alert, checked. ``severity`` None: resolved; ``began_at`` None: it does not say since when."""

    fingerprint: str
    severity: str | None
    name: str
    summary: str
    endpoint: str
    environment: str
    team: str
    labels: Mapping[str, str]
    link: str
    runbook_url: str
    began_at: datetime | None = None


class Malformed(Exception):
    """One item cannot be read; ``code`` and the sentence say why."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def items_of(payload: Any) -> Sequence[Any]:
    """The alerts of a whole message, unread. Raises InvalidInput where the message is none of version 4."""
    if not isinstance(payload, Mapping):
        raise InvalidInput("bad_payload", "Send a JSON object as Alertmanager's webhook_config does.")
    if payload.get("version") != VERSION:
        raise InvalidInput.at("/version", "version_unknown", 'Only payloads of version "4" are read.')
    alerts = payload.get("alerts")
    if not isinstance(alerts, list):
        raise InvalidInput.at("/alerts", "bad_alerts", "alerts is a list.")
    if len(alerts) > MOST:
        raise InvalidInput.at(
            "/alerts", "too_many", f"At most {MOST} alerts at once; set max_alerts of webhook_config."
        )
    return alerts


def item_of(alert: Any, labels: Mapping[str, str], page_values: Sequence[str], at: datetime) -> Item:
    """Read one. ``labels`` names the labels as LABELS does, ``page_values`` which severities page. One whose end has
    come by ``at`` is resolved, whatever its status says. Raises Malformed."""
    if not isinstance(alert, Mapping):
        raise Malformed("not_an_object", "An alert is a JSON object.")
    status = alert.get("status")
    if status not in {"firing", "resolved"}:
        raise Malformed("status_unknown", "status is firing or resolved.")
    fingerprint = alert.get("fingerprint")
    if not isinstance(fingerprint, str) or not 0 < len(fingerprint) <= 100 or not fingerprint.isalnum():
        raise Malformed("fingerprint_missing", "fingerprint is a word of 1 to 100 letters and digits.")
    found, notes = _texts(alert, "labels"), _texts(alert, "annotations")
    if not found.get("alertname"):
        raise Malformed("alertname_missing", "labels has no alertname.")
    read = {name: found.get(labels.get(name, usual), "").strip() for name, usual in LABELS.items()}
    environment = ENVIRONMENTS.get(read["environment"].lower(), read["environment"].lower())
    severity = Severity.PAGE if read["severity"].lower() in page_values else Severity.TICKET
    name = one_line(notes.get("summary") or notes.get("title") or found["alertname"])
    return Item(
        fingerprint=fingerprint,
        severity=severity.value if status == "firing" and not _is_over(alert.get("endsAt"), at) else None,
        name=f"{found['alertname']}: {name}" if name != found["alertname"] else name,
        summary=notes.get("description") or notes.get("message") or name,
        endpoint=read["endpoint"][:200], environment=environment[:20], team=read["team"], labels=found,
        link=_link(alert.get("generatorURL")), runbook_url=_link(notes.get("runbook_url") or notes.get("runbook")),
        began_at=_began(alert.get("startsAt")),
    )  # fmt: skip


def _is_over(ends_at: Any, at: datetime) -> bool:
    """Whether ``endsAt`` lies in the past. Alertmanager gives the year 1 for "not known yet"."""
    if ends_at is None:
        return False
    try:
        found = datetime.fromisoformat(str(ends_at).replace("Z", "+00:00"))
    except ValueError as error:
        raise Malformed("bad_end", "endsAt is RFC 3339.") from error
    if found.year <= 1:
        return False
    return (found if found.tzinfo else found.replace(tzinfo=UTC)) <= at


def _began(starts_at: Any) -> datetime | None:
    """In UTC; what cannot be read is left out, since an alert is not refused for that."""
    try:
        found = datetime.fromisoformat(str(starts_at).replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC) if found.year > 1 else None
    except (ValueError, OverflowError):
        return None


def span_of(seconds: int) -> str:
    """``4 h``, ``90 min``."""
    for size, word in ((86_400, "d"), (3600, "h"), (60, "min")):
        if seconds % size == 0 and seconds >= size:
            return f"{seconds // size} {word}"
    return f"{seconds} s"


def page_values_of(given: Sequence[str]) -> list[str]:
    """Lower case, each once."""
    return sorted({value.strip().lower() for value in given if value.strip()})


def _texts(alert: Mapping[str, Any], field: str) -> dict[str, str]:
    found = alert.get(field, {})
    if not isinstance(found, Mapping) or len(found) > MOST_LABELS:
        raise Malformed(f"bad_{field}", f"{field} is an object of at most {MOST_LABELS} texts.")
    if not all(isinstance(value, str) for value in found.values()):
        raise Malformed(f"bad_{field}", f"Every value of {field} is a text.")
    return {str(name)[:200].replace("\0", ""): _clean(value) for name, value in found.items()}


def _clean(text: str) -> str:
    """Half of a surrogate pair is text to JSON and none to a database."""
    return text[:TEXT_LENGTH].replace("\0", "").encode("utf-8", "replace").decode("utf-8")


def _link(given: Any) -> str:
    """http and https only: it becomes a link on a page."""
    if not isinstance(given, str) or len(given) > 2000 or not given.isprintable():
        return ""
    try:
        parts = urlsplit(given)
    except ValueError:
        return ""
    return given if parts.scheme in {"http", "https"} and parts.netloc else ""
