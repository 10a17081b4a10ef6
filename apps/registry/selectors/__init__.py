"""Reads of the registry.

With an ``actor`` they show the models of the teams that it may read: any other is like one that does not exist. Without
one they are for services that asked already (a rollout of an endpoint reads its versions by id).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime

from django.db.models import Count, Max, Prefetch, Q, QuerySet

from apps.accounts.services.access import EVERY, Every, access_allows, scope_q, visible_teams
from apps.kernel.actor import Actor
from apps.kernel.errors import InvalidInput, NotFound
from apps.registry.domain.drop_in import breaks_sentence
from apps.registry.domain.names import alias_at as alias_instant
from apps.registry.domain.names import version_line
from apps.registry.domain.semver import Semver, looks_like_version
from apps.registry.domain.signature import Difference, Signature, breaking_differences
from apps.registry.domain.words import ModelKind, PromotionState, VersionStatus
from apps.registry.models import Alias, AliasMove, Model, ModelVersion, PromotionRequest

READ = "model.read"


def readable_q(actor: Actor | None, team: str) -> Q:
    """The rows whose team (a lookup to its id) the actor may read; all of them without an actor."""
    return Q() if actor is None else scope_q(actor, READ, team=team)


def readable_teams(actor: Actor | None) -> list[str] | None:
    """The same as the ids of the teams; None is no limit."""
    teams = EVERY if actor is None else visible_teams(actor, READ)
    return None if isinstance(teams, Every) else sorted(teams)


def model_get(name: str, *, actor: Actor | None = None) -> Model:
    """Raises NotFound."""
    model = Model.objects.filter(readable_q(actor, "team_id"), name=name).first()
    if model is None:
        raise NotFound("model_unknown", f"There is no model {name}.", extra={"model": name})
    return model


def readable_require(actor: Actor, model: Model) -> None:
    """For a model that was looked up for everybody: raises NotFound, as ``model_get`` does, unless ``actor`` may read
    it."""
    if not access_allows(actor, READ, model.team_id):
        raise NotFound("model_unknown", f"There is no model {model.name}.", extra={"model": model.name})


def model_list(
    *, only_deployable: bool = True, actor: Actor | None = None, names: Collection[str] | None = None
) -> list[Model]:
    """By name, with ``versions`` and ``aliases`` (and their versions) at hand: three queries however many there are.

    ``only_deployable`` leaves out the versions without a semver (not verified yet, or catalogue entries), and prompts;
    ``names`` leaves out every other model.
    """
    models, versions = Model.objects.filter(readable_q(actor, "team_id")), ModelVersion.objects.all()
    if only_deployable:
        models, versions = models.filter(kind=ModelKind.MODEL), versions.filter(major__isnull=False)
    if names is not None:
        models = models.filter(name__in=names)
    return list(models.order_by("name").prefetch_related(Prefetch("versions", versions), "aliases__version"))


def models_named(actor: Actor, words: Sequence[str], limit: int) -> list[Model]:
    """The first models whose name holds every word, whatever the case; one query."""
    models = Model.objects.filter(readable_q(actor, "team_id"), kind=ModelKind.MODEL)
    for word in words:
        models = models.filter(name__icontains=word)
    return list(models.order_by("name")[:limit])


def versions_named(actor: Actor, words: Sequence[str], limit: int) -> list[ModelVersion]:
    """The first versions that some word begins ("1.1" fits 1.1.0 and 1.1.7) while every other word is in the model's
    name; none without such a word. One query."""
    named, found = Q(), Q(pk__in=[])
    for word in words:
        begins = _semver_begins(word)
        named &= Q(model__name__icontains=word) if begins is None else Q(model__name__icontains=word) | begins
        found |= Q(pk__in=[]) if begins is None else begins
    versions = ModelVersion.objects.filter(readable_q(actor, "model__team_id"), named, found, model__deleted_at=None)
    return list(versions.select_related("model").order_by("model__name", "number")[:limit])


def _semver_begins(word: str) -> Q | None:
    parts = word.rstrip(".").split(".")
    if len(parts) > 3 or not all(part.isascii() and part.isdigit() and len(part) < 9 for part in parts):
        return None
    return Q(**{name: int(part) for name, part in zip(("major", "minor", "patch"), parts, strict=False)})


def version_get(version_id: str, *, actor: Actor | None = None) -> ModelVersion:
    """By id, deleted ones too: what was deployed stays readable. Raises NotFound."""
    found = ModelVersion.everything.select_related("model").filter(readable_q(actor, "model__team_id"), id=version_id)
    version = found.first()
    if version is None:
        raise NotFound("version_unknown", f"There is no model version {version_id}.")
    return version


def version_by(model_name: str, reference: str, *, actor: Actor | None = None) -> ModelVersion:
    """By semver (``1.2.0``), number (``3``), alias (``champion``), or what is computed: ``latest``, the newest of a
    line (``s1``, ``s1-2``), an alias at an instant (``champion__at__20261101T120000Z``). Raises NotFound."""
    model = model_get(model_name, actor=actor)
    versions = ModelVersion.objects.select_related("model").filter(model=model)
    if reference.isascii() and reference.isdigit():
        found = versions.filter(number=int(reference)).first() if len(reference) < 10 else None
    elif looks_like_version(reference):
        found = _by_semver(model, reference)
    else:
        found = versions.filter(aliases__name=reference).first() or _computed(model, reference)
    if found is None:
        raise NotFound("version_unknown", f"{model_name} has no version {reference}.")
    return found


def version_list(model_name: str, *, only_deployable: bool = True, actor: Actor | None = None) -> list[ModelVersion]:
    """Newest registration first; ``only_deployable`` leaves out the versions without a semver."""
    model = model_get(model_name, actor=actor)
    found = ModelVersion.objects.select_related("model").prefetch_related("aliases").filter(model=model)
    if only_deployable:
        found = found.filter(major__isnull=False)
    return list(found.order_by("-number"))


def version_marks(model_id: str) -> tuple[object, ...]:
    """Other ones when a version of the model is registered, becomes ready, is changed or deleted. One small query."""
    ready = Count("pk", filter=Q(status=VersionStatus.READY))
    found = ModelVersion.objects.filter(model_id=model_id).aggregate(
        count=Count("pk"), ready=ready, newest=Max("updated_at")
    )
    return tuple(found.values())


def alias_list(model_name: str, *, actor: Actor | None = None) -> list[Alias]:
    """By name, with their versions."""
    found = Alias.objects.select_related("version").filter(model=model_get(model_name, actor=actor))
    return list(found.order_by("name"))


def signature_of(version: ModelVersion) -> Signature:
    """The typed form of a version's signature and constraints."""
    return Signature.of(version.signature, version.input_constraints)


def drop_in_problems(stable: ModelVersion, candidate: ModelVersion) -> list[Difference]:
    """Why ``candidate`` cannot take over calls made for ``stable``; empty when it can."""
    return breaking_differences(signature_of(stable), signature_of(candidate))


def drop_in_refusal(stable: ModelVersion, candidate: ModelVersion) -> str:
    """The same in one sentence; "" when it can."""
    return breaks_sentence(stable.semver, candidate.semver, signature_of(stable), signature_of(candidate))


def _computed(model: Model, alias: str) -> ModelVersion | None:
    """As the MLflow protocol reads them: ``latest`` leaves failed versions out, a line has ready ones only."""
    versions = ModelVersion.objects.select_related("model").filter(model=model)
    if alias.lower() == "latest":
        return versions.exclude(status=VersionStatus.FAILED).order_by("-number").first()
    if (line := version_line(alias)) is not None:
        major, minor = line
        versions = versions.filter(status=VersionStatus.READY, major=major)
        return (versions if minor is None else versions.filter(minor=minor)).order_by("-minor", "-patch").first()
    try:
        past = alias_instant(alias)
    except InvalidInput:
        return None  # an instant that no calendar has
    if past is None:
        return None
    moves = AliasMove.objects.filter(model=model, name=past[0], at__lte=past[1]).order_by("-at", "-id")
    return versions.filter(pk=moves.values_list("to_version_id", flat=True).first()).first()


def _by_semver(model: Model, text: str) -> ModelVersion | None:
    try:
        semver = Semver.parse(text)
    except InvalidInput:
        return None  # "1.2" or "v1.2.0": no version is called that
    return (
        ModelVersion.objects.select_related("model")
        .filter(model=model, major=semver.major, minor=semver.minor, patch=semver.patch)
        .first()
    )


def versions_in_bulk(ids: Iterable[str], *, unread: Iterable[str] = ()) -> dict[str, ModelVersion]:
    """Versions by id, deleted ones too, one query; the columns named in ``unread`` stay in the database."""
    return ModelVersion.everything.defer(*unread).in_bulk(list(ids))


def alias_history(model_name: str, alias: str = "", *, actor: Actor | None = None) -> list[AliasMove]:
    """Moves, newest first, with their versions; of one alias, or of all."""
    moves = AliasMove.objects.select_related("from_version", "to_version", "request")
    moves = moves.filter(model=model_get(model_name, actor=actor))
    return list((moves.filter(name=alias) if alias else moves).order_by("-at", "-id"))


def alias_at(model_name: str, alias: str, moment: datetime, *, actor: Actor | None = None) -> AliasMove | None:
    """The move by which the alias pointed where it did at ``moment``: ``to_version`` served then, None for none.

    None without a move: nobody had set it yet. Raises NotFound for the model.
    """
    moves = AliasMove.objects.select_related("model", "from_version", "to_version", "request")
    moves = moves.filter(model=model_get(model_name, actor=actor), name=alias, at__lte=moment)
    return moves.order_by("-at", "-id").first()


def promotion_get(promotion_id: str, *, actor: Actor | None = None) -> PromotionRequest:
    """With its model and versions. Raises NotFound."""
    found = _promotions(actor).filter(pk=promotion_id).first()
    if found is None:
        raise NotFound("promotion_unknown", f"There is no promotion request {promotion_id}.")
    return found


def promotions_open(*, without_review: bool = False, actor: Actor | None = None) -> list[PromotionRequest]:
    """Oldest first, with their models and versions; ``without_review``: those that nobody has opened a review for."""
    found = _promotions(actor).filter(state=PromotionState.OPEN)
    return list((found.filter(review_id="") if without_review else found).order_by("asked_at"))


def promotion_list(actor: Actor) -> QuerySet[PromotionRequest]:
    """All that the actor may see, unordered."""
    return _promotions(actor)


def _promotions(actor: Actor | None) -> QuerySet[PromotionRequest]:
    found = PromotionRequest.objects.select_related("model", "version", "seen_version")
    return found.filter(readable_q(actor, "model__team_id"))
