"""Alertmanagers that report: a token each, labels to teams and endpoints, and their alerts as incidents of ours."""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.db import IntegrityError, transaction
from django.db.models import F

from apps.accounts.domain.roles import Environment
from apps.accounts.selectors import team_default, team_list
from apps.accounts.services.access import access_require, team_for
from apps.alerts.domain.alertmanager import (
    LABELS,
    LEAST_REPEAT,
    MOST_REPEAT,
    PAGES,
    REPEAT_SECONDS,
    Item,
    Malformed,
    item_of,
    items_of,
    page_values_of,
)
from apps.alerts.domain.incidents import TITLE_LENGTH, IncidentState, Observation
from apps.alerts.domain.messages import one_line
from apps.alerts.domain.names import name_check
from apps.alerts.models import Incident, Receiver
from apps.alerts.selectors import ROUTE, receiver_get
from apps.alerts.services.incidents import incidents_observe
from apps.alerts.services.places import place_of
from apps.alerts.services.unheard import SOURCE, key_of
from apps.audit.services.record import event_record
from apps.kernel.actor import ANY, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, InvalidInput

PREFIX: Final = "plr_"
LONGEST_MARK: Final = 40
_LABEL: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")


def receiver_create(
    *,
    actor: Actor,
    name: str,
    team: str = "",
    is_house_wide: bool = False,
    labels: Mapping[str, str] | None = None,
    page_values: Sequence[str] = PAGES,
    repeat_seconds: int = REPEAT_SECONDS,
) -> tuple[Receiver, str]:
    """The receiver and its token, which is nowhere else. ``is_house_wide``: a label says whose each alert is; for this
    one needs the right everywhere. Raises InvalidInput, NotFound, Forbidden, Conflict."""
    name_check(name)
    _check_repeat(repeat_seconds)
    owner = None
    if is_house_wide:
        access_require(actor, ROUTE, ANY, ANY)
    else:
        owner = team_for(actor, ROUTE, team)
    token = PREFIX + secrets.token_urlsafe(32)
    row = Receiver(
        team=owner, name=name, token_hash=_hash(token), labels=_labels(labels or {}),
        page_values=page_values_of(page_values), repeat_seconds=repeat_seconds, created_by=actor.label,
        created_at=now(),
    )  # fmt: skip
    try:
        with transaction.atomic():
            row.save(force_insert=True)
            _record(actor, "receiver.created", row)
    except IntegrityError as error:
        raise Conflict("receiver_exists", f"There is a receiver {name} already; choose another name.") from error
    return row, token


def receiver_update(*, actor: Actor, receiver_id: str, repeat_seconds: int) -> Receiver:
    """How often it repeats what still fires: what goes unheard for longer is taken as over. Raises NotFound,
    InvalidInput."""
    _check_repeat(repeat_seconds)
    with transaction.atomic():
        row = receiver_get(actor, receiver_id, is_locked=True)
        if row.repeat_seconds != repeat_seconds:
            before, row.repeat_seconds = row.repeat_seconds, repeat_seconds
            row.save(update_fields=["repeat_seconds"])
            _record(actor, "receiver.updated", row, before={"repeat_seconds": before})
    return row


def receiver_rotate(*, actor: Actor, receiver_id: str) -> tuple[Receiver, str]:
    """A new token; the old one opens nothing from now on. Raises NotFound."""
    token = PREFIX + secrets.token_urlsafe(32)
    with transaction.atomic():
        row = receiver_get(actor, receiver_id, is_locked=True)
        row.token_hash = _hash(token)
        row.save(update_fields=["token_hash"])
        _record(actor, "receiver.rotated", row)
    return row, token


def receiver_delete(*, actor: Actor, receiver_id: str) -> None:
    """Its alerts stay as they are until a person resolves them. Raises NotFound."""
    with transaction.atomic():
        row = receiver_get(actor, receiver_id, is_locked=True)
        _record(actor, "receiver.deleted", row)
        row.delete()


def receiver_of_token(receiver_id: str, token: str) -> Receiver | None:
    """The receiver that ``token`` opens. The same time is spent on an unknown id as on a wrong token."""
    row = Receiver.objects.select_related("team").filter(pk=receiver_id).first()
    kept = row.token_hash if row is not None else "0" * 64
    return row if secrets.compare_digest(kept, _hash(token)) else None


def alerts_receive(*, receiver: Receiver, payload: Any) -> dict[str, Any]:
    """``{"accepted", "rejected": [{"index", "code", "detail"}]}``: what cannot be read is refused by itself.

    The same message again changes nothing. Raises InvalidInput where the whole message is none of version 4.
    """
    observations, rejected, moment = [], [], now()
    for index, alert in enumerate(items_of(payload)):
        try:
            item = item_of(alert, receiver.labels, receiver.page_values, moment)
            observations.append(_observation(receiver, item))
        except Malformed as fault:
            rejected.append({"index": index, "code": fault.code, "detail": str(fault)})
    last = "; ".join(f"{one['code']}: {one['detail']}" for one in rejected[:3])
    with transaction.atomic():
        changed: dict[str, Any] = {"last_rejection": last[:1000]} if rejected else {}
        Receiver.objects.filter(pk=receiver.pk).update(
            accepted=F("accepted") + len(observations),
            rejected=F("rejected") + len(rejected),
            seen_at=moment,
            **changed,
        )
        heard = [one.key for one in observations if one.severity is not None]
        Incident.objects.filter(key__in=heard).exclude(state=IncidentState.RESOLVED).update(heard_at=moment)
        incidents_observe(observations)
    return {"accepted": len(observations), "rejected": rejected}


def _observation(receiver: Receiver, item: Item) -> Observation:
    """Whose it is: the receiver's team; for one of the whole house what the label says, else whose the endpoint is.
    Raises Malformed for another team's endpoint: a token of one team gets nobody of another up."""
    place = place_of("endpoint", item.endpoint) if item.endpoint else None
    team = receiver.team_id or _team(item, place[0] if place else None)
    if place and place[0] != team:
        raise Malformed("endpoint_of_another_team", f"The endpoint {item.endpoint} belongs to another team.")
    environment = (place[1] if place else item.environment) or ""
    title = item.name
    facts = {name: value for name, value in item.labels.items() if name != "alertname"}
    if environment and environment not in set(Environment):
        # Somebody's "uat" is no environment of ours. Its page would get nobody up if it were refused: it is taken
        # without one, and says theirs where messages say ours.
        theirs = item.labels[receiver.labels.get("environment", LABELS["environment"])]
        environment, title = "", _titled(item.name, theirs)
    if item.began_at is not None:  # it was wrong before anybody told us, longer so after an outage of ours
        facts = {"wrong_there_since": f"{item.began_at:%Y-%m-%d %H:%M} UTC", **facts}
    return Observation(
        key=key_of(receiver.pk, item.fingerprint), source=SOURCE, team_id=team, environment=environment,
        subject_type="endpoint" if place else "service", subject_id=item.endpoint if place else "",
        subject_name=item.endpoint or item.labels.get("job", "") or receiver.name, severity=item.severity,
        title=title, summary=item.summary, facts=facts, link=item.link, runbook_url=item.runbook_url,
    )  # fmt: skip


def _titled(name: str, environment: str) -> str:
    """``HighLatency (uat)``, also where the name alone fills a title."""
    mark = f" ({one_line(environment)[:LONGEST_MARK]})"
    return f"{name[: TITLE_LENGTH - len(mark)]}{mark}"


def _team(item: Item, of_endpoint: str | None) -> str:
    if item.team:
        found = team_list().filter(slug=item.team.lower()).values_list("pk", flat=True).first()
        if found is None:
            raise Malformed("team_unknown", f"There is no team {item.team[:80]}.")
        return str(found)
    return of_endpoint or team_default().pk


def _check_repeat(seconds: int) -> None:
    if not LEAST_REPEAT <= seconds <= MOST_REPEAT:
        raise InvalidInput.at(
            "/repeat_seconds", "bad_repeat", f"repeat_seconds lies between {LEAST_REPEAT} and {MOST_REPEAT} (7 days)."
        )


def _labels(given: Mapping[str, str]) -> dict[str, str]:
    for name, label in given.items():
        if name not in LABELS or not _LABEL.fullmatch(label):
            known = ", ".join(LABELS)
            raise InvalidInput.at(f"/labels/{name}", "bad_label", f"Name a Prometheus label for any of {known}.")
    return dict(given)


def _hash(token: str) -> str:
    """The token is random and long: no salt, no slow hash needed."""
    return hashlib.sha256(token.encode("utf-8", "replace")).hexdigest()


def _record(actor: Actor, verb: str, row: Receiver, **more: Any) -> None:
    facts = {"labels": row.labels, "page_values": row.page_values, "repeat_seconds": row.repeat_seconds}
    event_record(
        actor=actor, verb=verb, subject_kind="receiver", subject_id=row.pk, subject_label=row.name,
        detail={"team": row.team.slug if row.team else None, **facts, **more},
    )  # fmt: skip
