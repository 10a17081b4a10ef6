"""Plain webhooks, PagerDuty and Opsgenie: POSTs through the one way out.

PagerDuty (Events API v2) and Opsgenie (Alert API v2) are spoken here and not through Apprise, because Apprise passes
no key of deduplication to the one and cannot acknowledge or close by it at either: every reminder would be a new
incident there, and none would ever end.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from apps.alerts.domain.addresses import key_of, region_of
from apps.alerts.domain.incidents import ChangeKind, Severity
from apps.alerts.domain.messages import TEST, Message
from apps.kernel.telling import Outcome, post_json, signed_headers

PAGERDUTY: Final = {"us": "https://events.pagerduty.com/v2/enqueue", "eu": "https://events.eu.pagerduty.com/v2/enqueue"}
OPSGENIE: Final = {"us": "https://api.opsgenie.com/v2/alerts", "eu": "https://api.eu.opsgenie.com/v2/alerts"}
_WRONG_KEY: Final = frozenset({400, 401, 403, 422})


def webhook_send(url: str, secret: str, message: Message, timestamp: int) -> Outcome:
    """Signed as every webhook of the product (apps/kernel/telling.py)."""
    body = json.dumps(message.data, ensure_ascii=False).encode("utf-8")
    return post_json(url, body, signed_headers([secret], message.id, timestamp, body))


def pagerduty_send(url: str, message: Message) -> Outcome:
    """One event; a test opens and closes at once."""
    event: dict[str, Any] = {
        "routing_key": key_of(url),
        "dedup_key": message.dedup_key,
        "event_action": _action(message.kind),
        "client": "Pilothouse",
        "client_url": message.link,
        "payload": {
            "summary": message.subject[:1024],
            "source": _subject_name(message) or "pilothouse",
            "severity": "critical" if message.severity == Severity.PAGE else "warning",
            "custom_details": {"text": message.body},
        },
        "links": [{"href": message.link, "text": "Open in Pilothouse"}],
    }
    place = PAGERDUTY[region_of(url)]
    outcome = _post(place, event, {})
    if message.kind == TEST and outcome.is_success:
        return _post(place, {**event, "event_action": "resolve"}, {})
    return outcome


def opsgenie_send(url: str, message: Message) -> Outcome:
    """Alerts are found again by their alias, which is the incident's id."""
    place, headers = OPSGENIE[region_of(url)], {"Authorization": f"GenieKey {key_of(url)}"}
    alias, action = quote(message.dedup_key, safe=""), _action(message.kind)
    note = {"source": "Pilothouse", "note": message.body[:25_000]}
    if action != "trigger":
        verb = "close" if action == "resolve" else "acknowledge"
        return _post(f"{place}/{alias}/{verb}?identifierType=alias", note, headers)
    body = {
        "message": message.subject[:130],
        "alias": message.dedup_key,
        "description": message.body[:15_000],
        "priority": "P1" if message.severity == Severity.PAGE else "P3",
        "source": "Pilothouse",
        "entity": _subject_name(message)[:512],
        "details": {"link": message.link},
    }
    outcome = _post(place, body, headers)
    if message.kind == TEST and outcome.is_success:
        return _post(f"{place}/{alias}/close?identifierType=alias", note, headers)
    return outcome


def _action(kind: str) -> str:
    if kind == ChangeKind.RESOLVED:
        return "resolve"
    return "acknowledge" if kind == ChangeKind.ACKNOWLEDGED else "trigger"


def _subject_name(message: Message) -> str:
    data = message.data.get("data", {})
    return str(data.get("subject_name", "")) if isinstance(data, Mapping) else ""


def _post(url: str, body: Mapping[str, Any], headers: Mapping[str, str]) -> Outcome:
    """A refused key does not become a good one: no repetition."""
    outcome = post_json(url, json.dumps(body, ensure_ascii=False).encode("utf-8"), headers)
    if outcome.status not in _WRONG_KEY:
        return outcome
    return Outcome(outcome.status, outcome.body, f"refused with {outcome.status}; check the key", is_final=True)
