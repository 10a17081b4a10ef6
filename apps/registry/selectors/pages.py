"""Reads for the pages: only what the actor may see, a page at a time, with a count of queries that does not grow.

What one may not see is NotFound, in the same words as what does not exist.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import orjson
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Subquery
from django.utils.module_loading import import_string

from apps.accounts.selectors import team_list
from apps.accounts.services.access import EVERY, access_allows, scope_q, visible_teams
from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput, NotFound
from apps.registry.domain.compatibility import proposed_semver
from apps.registry.domain.filters import MODEL_ATTRIBUTES, Clause, parse_filter
from apps.registry.domain.names import IS_PROMPT_TAG
from apps.registry.domain.semver import Semver, looks_like_version
from apps.registry.domain.signature import Difference, Signature, breaking_differences
from apps.registry.domain.words import ModelKind, PromotionState, Stage, Trust, VersionStatus
from apps.registry.models import (
    Alias,
    AliasMove,
    ImportJob,
    Model,
    ModelTag,
    ModelVersion,
    PromotionRequest,
)
from apps.registry.selectors.search import compared

if TYPE_CHECKING:
    from apps.accounts.models import Team

READ = "model.read"
MAX_WORDS = 8
HEAVY: Final = (
    *("signature", "input_constraints", "reference_profile", "inspection", "params", "lineage", "evaluations"),
    *("card", "status_message"),
)
"""Columns of a version that no table shows."""
ENDPOINTS = "apps.targets.selectors.endpoint_list"
"""Who knows where versions run. Targets stand above the registry, so it is named here as drivers are, not imported."""

SORTS: Final[Mapping[str, tuple[str, bool]]] = {
    "changed": ("updated_at", False),
    "name": ("name", True),
    "registered": ("created_at", False),
}
_GRAMMAR = re.compile(r"[=<>]|\b(?:i?like|in)\b\s*['\"(]", re.IGNORECASE)
SHOWN: Final[Mapping[str, Q]] = {
    "": Q(),
    "ready": Q(status=VersionStatus.READY, trust=Trust.VERIFIED),
    "unverified": ~Q(trust=Trust.VERIFIED) & Q(status=VersionStatus.READY),
    "pending": Q(status=VersionStatus.PENDING),
    "failed": Q(status=VersionStatus.FAILED),
    "archived": Q(stage=Stage.ARCHIVED),
}
"""What the table of versions can be narrowed to."""


@dataclass(frozen=True, slots=True)
class Listing:
    """Rows in order and the token of the next page, "" at the end."""

    rows: list[Model]
    following: str


@dataclass(frozen=True, slots=True)
class Deployment:
    """One endpoint that runs a version; ``endpoint`` is "" where the reader may not see it. Weight in basis points."""

    endpoint: str
    environment: str
    role: str
    weight_bp: int
    key: str


@dataclass(frozen=True, slots=True)
class Offer:
    """The number a signature asks for, and why: the version it was compared with and what breaks its callers."""

    semver: Semver
    over: Semver | None
    breaks: list[Difference]
    is_same: bool


def model_seen(actor: Actor, name: str) -> Model:
    """With its team. Raises NotFound."""
    found = None
    if "\0" not in name:
        found = Model.objects.select_related("team").filter(scope_q(actor, READ, team="team"), name=name).first()
    if found is None:
        raise NotFound("model_unknown", f"There is no model {name}, or you may not see it.")
    return found


def version_seen(actor: Actor, name: str, reference: str) -> ModelVersion:
    """By semver, number or alias, with model, team and parent: one query. Raises NotFound."""
    wanted = None if "\0" in name + reference else _reference(reference)
    found = None
    if wanted is not None:
        living = ModelVersion.objects.select_related("model__team", "parent__model").filter(model__deleted_at=None)
        found = living.filter(scope_q(actor, READ, team="model__team"), wanted, model__name=name).first()
    if found is None:
        raise NotFound("version_unknown", f"There is no version {reference} of {name}, or you may not see it.")
    return found


def promotion_seen(actor: Actor, request_id: str) -> PromotionRequest:
    """With model, team and versions. Raises NotFound."""
    found = PromotionRequest.objects.select_related("model__team", "version", "seen_version")
    row = found.filter(scope_q(actor, READ, team="model__team"), pk=request_id.replace("\0", "")).first()
    if row is None:
        raise NotFound("promotion_unknown", f"There is no promotion request {request_id}, or you may not see it.")
    return row


def teams_seen(actor: Actor, action: str = READ) -> list[Team]:
    """The teams where ``actor`` may do ``action``, by slug."""
    teams = visible_teams(actor, action)
    found = team_list()
    return list(found if teams is EVERY else found.filter(pk__in=teams))


def models_found(actor: Actor, *, text: str, sort: str, team: str, after: str, limit: int) -> Listing:
    """One page of the models that fit.

    ``text`` is the MLflow filter grammar (``name LIKE 'fraud%' AND tags.owner = 'risk'``) or plain words, all of which
    must fit: a part of the name, description, a tag or an alias; ``@champion`` an alias; ``owner:risk`` a tag.
    Rows carry ``newest`` (id of the newest version, None for none) and ``count`` of versions.
    Raises InvalidInput at ``/q``, ``/sort`` or ``/after``.
    """
    if sort not in SORTS:
        raise InvalidInput.at("/sort", "bad_sort", f"{sort[:40]!r} is no order; choose one of {', '.join(SORTS)}.")
    column, is_ascending = SORTS[sort]
    found = Model.objects.select_related("team").filter(scope_q(actor, READ, team="team"), _wanted(text))
    if team:
        found = found.filter(team__slug=team)
    if after:
        found = found.filter(_beyond(column, is_ascending, _opened(after, sort)))
    found = found.order_by(F(column).asc() if is_ascending else F(column).desc(), "name")
    rows = list(_counted(found)[: limit + 1])
    following = ""
    if len(rows) > limit:
        last, value = rows[limit - 1], getattr(rows[limit - 1], column)
        key = [sort, value.isoformat() if isinstance(value, datetime) else value, last.name]
        following = base64.urlsafe_b64encode(orjson.dumps(key)).decode("ascii")
    return Listing(rows[:limit], following)


def versions_in(ids: Iterable[str]) -> dict[str, ModelVersion]:
    """Versions by id without what no table shows."""
    return ModelVersion.objects.defer(*HEAVY).in_bulk(list(ids))


def aliases_of(models: Iterable[Model]) -> list[Alias]:
    """The aliases of these models by name, with their versions: one query."""
    heavy = [f"version__{name}" for name in HEAVY]
    rows = Alias.objects.select_related("version").defer(*heavy).filter(model__in=list(models))
    return list(rows.order_by("name"))


def versions_below(model: Model, *, below: int | None, shown: str, limit: int) -> list[ModelVersion]:
    """Up to ``limit`` versions with a number below the one given, newest first; ``shown`` is a key of SHOWN."""
    found = ModelVersion.objects.filter(SHOWN[shown], model=model).defer(*HEAVY)
    if below is not None:
        found = found.filter(number__lt=below)
    return list(found.order_by("-number")[:limit])


def moves_of(model: Model, limit: int) -> list[AliasMove]:
    """The last moves of any alias, newest first, with their versions and requests."""
    moves = AliasMove.objects.select_related("from_version", "to_version", "request").filter(model=model)
    return list(moves.order_by("-at", "-id")[:limit])


def served_at(model: Model, moment: datetime) -> list[AliasMove]:
    """Per alias the last move up to ``moment``: where it pointed then. Those that pointed nowhere are left out."""
    moves = AliasMove.objects.select_related("to_version", "request").filter(model=model, at__lte=moment)
    return [move for move in moves.order_by("name", "-at", "-id").distinct("name") if move.to_version is not None]


def promotions_of(model: Model) -> list[PromotionRequest]:
    """The open requests to move an alias of the model, oldest first."""
    found = PromotionRequest.objects.select_related("version", "seen_version")
    return list(found.filter(model=model, state=PromotionState.OPEN).order_by("asked_at"))


def deployments_of(actor: Actor, model: Model) -> list[Deployment]:
    """Every variant of the model that an endpoint wants to run now, by endpoint: one query."""
    found: list[Deployment] = []
    for endpoint in import_string(ENDPOINTS)().filter(model_id=model.pk):
        environment = endpoint.target.environment
        is_seen = access_allows(actor, "endpoint.read", endpoint.team_id, environment)
        desired: Mapping[str, Any] = endpoint.desired or {}
        weights = desired.get("route", {}).get("weights_bp", {})
        for one in desired.get("variants", []):
            weight = int(weights.get(one["key"], 0))
            name = endpoint.name if is_seen else ""
            found.append(Deployment(name, environment, str(one["role"]), weight, str(one["key"])))
    return found


def semver_offer(model: Model | None, signature: Signature) -> Offer:
    """What a version with this signature would be called in ``model`` (None: a model that is still to be made)."""
    known: dict[Semver, Signature] = {}
    rows = ModelVersion.everything.filter(model=model, major__isnull=False) if model is not None else []
    for one in rows:
        if one.major is not None and one.minor is not None and one.patch is not None:
            known[Semver(one.major, one.minor, one.patch)] = Signature.of(one.signature, one.input_constraints)
    highest = max(known, default=None)
    breaks = breaking_differences(known[highest], signature) if highest is not None else []
    is_same = highest is not None and known[highest] == signature
    return Offer(proposed_semver(known, signature), highest, breaks, is_same)


def imports_seen(actor: Actor) -> list[ImportJob]:
    """Imports into the teams that the actor may see, newest first."""
    teams = teams_seen(actor)
    keys = [key for team in teams for key in (team.pk, team.slug)]
    return list(ImportJob.objects.filter(team_key__in=keys).order_by("-created_at", "-id"))


def import_seen(actor: Actor, job_id: str) -> ImportJob:
    """Raises NotFound."""
    found = next((job for job in imports_seen(actor) if job.pk == job_id), None)
    if found is None:
        raise NotFound("import_unknown", f"There is no import {job_id}, or you may not see it.")
    return found


def _reference(text: str) -> Q | None:
    """The filter for what an address calls a version; None for what no version can be called."""
    if text.isascii() and text.isdigit():
        return Q(number=int(text)) if len(text) < 10 else None
    if not looks_like_version(text):
        return Q(aliases__name=text)
    try:
        semver = Semver.parse(text)
    except InvalidInput:
        return None
    return Q(major=semver.major, minor=semver.minor, patch=semver.patch)


def _counted(found: QuerySet[Model]) -> QuerySet[Model]:
    versions = ModelVersion.objects.filter(model=OuterRef("pk"))
    count = versions.order_by().values("model").annotate(n=Count("pk")).values("n")
    return found.annotate(newest=Subquery(versions.order_by("-number").values("pk")[:1]), count=Subquery(count))


def _wanted(text: str) -> Q:
    """What is searched for; prompts only where they are asked for by their tag."""
    if "\0" in text or len(text) > 1000:
        raise InvalidInput.at("/q", "bad_search", "Search with at most 1,000 characters of text.")
    if not _GRAMMAR.search(text):
        words = text.split()
        if len(words) > MAX_WORDS:
            raise InvalidInput.at("/q", "bad_search", f"Search with at most {MAX_WORDS} words.")
        return _all(Q(kind=ModelKind.MODEL), *(_word(word) for word in words))
    try:
        clauses = parse_filter(text, MODEL_ATTRIBUTES)
    except InvalidInput as fault:
        raise InvalidInput.at("/q", fault.code, fault.detail) from fault
    asked = [one for one in clauses if one.is_tag and one.key == IS_PROMPT_TAG]
    kind = ModelKind.MODEL
    for one in asked:
        is_true = str(one.value).lower() == "true"
        kind = ModelKind.PROMPT if is_true == (one.comparator == "=") else ModelKind.MODEL
    return _all(Q(kind=kind), *(_clause(one) for one in clauses if one not in asked))


def _word(word: str) -> Q:
    tags = ModelTag.objects.filter(model=OuterRef("pk"))
    aliases = Alias.objects.filter(model=OuterRef("pk"))
    if word.startswith("@") and len(word) > 1:
        return Q(Exists(aliases.filter(name=word[1:])))
    key, mark, value = word.partition(":")
    if mark and key and value:
        return Q(Exists(tags.filter(key=key, value__istartswith=value)))
    in_tags = Q(key__icontains=word) | Q(value__icontains=word)
    return (
        Q(name__icontains=word)
        | Q(description__icontains=word)
        | Q(Exists(aliases.filter(name__istartswith=word)))
        | Q(Exists(tags.filter(in_tags)))
    )


def _clause(clause: Clause) -> Q:
    if not clause.is_tag:
        return compared("name", clause)
    tags = ModelTag.objects.filter(model=OuterRef("pk"), key=clause.key)
    return Q(Exists(tags.filter(compared("value", clause))))


def _all(*parts: Q) -> Q:
    found = Q()
    for part in parts:
        found &= part
    return found


def _beyond(column: str, is_ascending: bool, last: tuple[Any, str]) -> Q:
    value, name = last
    if column == "name":
        return Q(name__gt=name)
    beyond = "gt" if is_ascending else "lt"
    # The first condition alone is what the index can use.
    return Q(**{f"{column}__{beyond}e": value}) & (
        Q(**{f"{column}__{beyond}": value}) | Q(**{column: value, "name__gt": name})
    )


def _opened(after: str, sort: str) -> tuple[Any, str]:
    try:
        held = orjson.loads(base64.urlsafe_b64decode(after.encode("ascii")))
        # A token of another order has another first entry: its values would be compared with the wrong column.
        value, name = {sort: (held[1], held[2])}[held[0]]
        return (str(value) if sort == "name" else datetime.fromisoformat(value)), str(name)
    except (ValueError, TypeError, LookupError, binascii.Error) as error:
        detail = "This page belongs to another order or search; begin at the first one."
        raise InvalidInput.at("/after", "bad_page", detail) from error
