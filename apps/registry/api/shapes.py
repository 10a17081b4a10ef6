"""What the API says about models and versions: rows to JSON, and the schemas of that JSON."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from rest_framework import serializers

from apps.kernel.rest import iso
from apps.registry.domain.side_by_side import columns, metric_pairs, pairs
from apps.registry.domain.words import PromotionState, Stage, Trust
from apps.registry.models import Alias, AliasMove, Model, ModelVersion, PromotionRequest, VersionStatus
from apps.registry.selectors import drop_in_problems

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class AliasSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    alias = serializers.CharField()
    model = serializers.CharField()
    version = serializers.CharField()
    moved_at = serializers.DateTimeField()


class ApproverSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    name = serializers.CharField()


class AliasMoveSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    alias = serializers.CharField()
    model = serializers.CharField()
    from_version = serializers.CharField(allow_null=True)
    to_version = serializers.CharField(allow_null=True, help_text="null: the alias was taken away.")
    at = serializers.DateTimeField()
    moved_by = serializers.CharField()
    promotion = serializers.CharField(allow_null=True)
    review = serializers.CharField(allow_null=True)
    rollout = serializers.CharField(allow_null=True)
    approved_by = ApproverSchema(many=True)


class AliasAtSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    alias = serializers.CharField()
    model = serializers.CharField()
    at = serializers.DateTimeField()
    version = serializers.CharField(allow_null=True, help_text="null: it pointed nowhere then.")
    move = AliasMoveSchema(allow_null=True)


class PromotionSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    model = serializers.CharField()
    alias = serializers.CharField()
    version = serializers.CharField(allow_null=True, help_text="null: take the alias away.")
    seen_version = serializers.CharField(allow_null=True, help_text="Where the alias pointed when it was asked for.")
    state = serializers.ChoiceField(choices=[state.value for state in PromotionState])
    review = serializers.CharField(allow_null=True)
    rollout = serializers.CharField(allow_null=True)
    asked_by = serializers.CharField()
    asked_at = serializers.DateTimeField()
    note = serializers.CharField(allow_blank=True)
    settled_by = serializers.CharField(allow_blank=True)
    settled_at = serializers.DateTimeField(allow_null=True)


class ModelSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    name = serializers.CharField()
    team = serializers.CharField(help_text="The slug of the team that owns it.")
    description = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    latest_version = serializers.CharField(allow_null=True)
    version_count = serializers.IntegerField()
    aliases = serializers.DictField(child=serializers.CharField(), help_text="Alias to version.")
    tags = serializers.DictField(child=serializers.CharField(allow_blank=True))
    updated_at = serializers.DateTimeField()


class ColumnSchema(serializers.Serializer[Any]):
    name = serializers.CharField(allow_blank=True)
    type = serializers.CharField()
    required = serializers.BooleanField(required=False)  # type: ignore[assignment]


class SignatureSchema(serializers.Serializer[Any]):
    inputs = ColumnSchema(many=True)
    outputs = ColumnSchema(many=True)


class VersionSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    model = serializers.CharField()
    version = serializers.CharField()
    number = serializers.IntegerField()
    variant_key = serializers.CharField()
    status = serializers.ChoiceField(choices=[status.value for status in VersionStatus])
    status_message = serializers.CharField(allow_blank=True)
    stage = serializers.ChoiceField(choices=[stage.value for stage in Stage])
    trust = serializers.ChoiceField(choices=[trust.value for trust in Trust])
    source_uri = serializers.CharField(help_text="What the author wrote.")
    storage_uri = serializers.CharField(allow_blank=True, help_text="Where the verified bytes lie; empty for none.")
    artifact_digest = serializers.CharField(allow_blank=True)
    size_bytes = serializers.IntegerField()
    flavor = serializers.CharField(allow_blank=True)
    signature = SignatureSchema()
    input_constraints = serializers.DictField()
    metrics = serializers.DictField()
    params = serializers.DictField()
    run_id = serializers.CharField(allow_blank=True)
    description = serializers.CharField(allow_blank=True)
    aliases = serializers.ListField(child=serializers.CharField())
    tags = serializers.DictField(child=serializers.CharField(allow_blank=True))
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    updated_at = serializers.DateTimeField()


class DifferenceSchema(serializers.Serializer[Any]):
    column = serializers.CharField()
    what = serializers.CharField()
    before = serializers.CharField(allow_blank=True)
    after = serializers.CharField(allow_blank=True)
    detail = serializers.CharField()


class PairSchema(serializers.Serializer[Any]):
    name = serializers.CharField(allow_blank=True)
    stable = serializers.JSONField(allow_null=True, help_text="null: it has none.")
    candidate = serializers.JSONField(allow_null=True, help_text="null: it has none.")
    is_same = serializers.BooleanField()


class MetricPairSchema(PairSchema):
    difference = serializers.FloatField(
        allow_null=True, help_text="candidate less stable; null unless both are numbers"
    )


class ComparisonSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    model = serializers.CharField()
    stable = serializers.CharField()
    candidate = serializers.CharField()
    is_drop_in = serializers.BooleanField(help_text="Whether every call made for stable is answered by candidate.")
    differences = DifferenceSchema(many=True)
    is_same_artifact = serializers.BooleanField(help_text="Whether both are the same bytes.")
    is_same_data = serializers.BooleanField(
        allow_null=True, help_text="Whether the metrics were measured on the same data; null: not known of both."
    )
    inputs = PairSchema(many=True)
    outputs = PairSchema(many=True)
    metrics = MetricPairSchema(many=True)
    params = PairSchema(many=True)
    profile = PairSchema(many=True, help_text="What the inputs looked like at training time, by column.")
    tags = PairSchema(many=True)


def revision_of(row: Model | ModelVersion) -> int:
    """What If-Match compares: when the row last changed, in microseconds. It changes under the model's lock only."""
    return (row.updated_at - _EPOCH) // timedelta(microseconds=1)


def model_show(model: Model) -> dict[str, Any]:
    """Reads ``team``, ``versions``, ``aliases__version`` and ``tags``: select and prefetch them."""
    versions = list(model.versions.all())
    numbered = sorted((one for one in versions if one.major is not None), key=lambda one: one.order)
    return {
        "id": model.id,
        "object": "model",
        "name": model.name,
        "team": model.team.slug,
        "description": model.description,
        "created_at": iso(model.created_at),
        "created_by": model.created_by,
        "latest_version": numbered[-1].semver if numbered else None,
        "version_count": len(versions),
        "aliases": {alias.name: alias.version.reference for alias in model.aliases.all()},
        "tags": {tag.key: tag.value for tag in model.tags.all()},
        "updated_at": iso(model.updated_at),
    }


def version_show(version: ModelVersion) -> dict[str, Any]:
    """Reads ``model``, ``aliases`` and ``tags``: select and prefetch them."""
    return {
        "id": version.id,
        "object": "model_version",
        "model": version.model.name,
        "version": version.reference,
        "number": version.number,
        "variant_key": version.variant_key,
        "status": version.status,
        "status_message": version.status_message,
        "stage": version.stage,
        "trust": version.trust,
        "source_uri": version.source_uri,
        "storage_uri": version.storage_uri,
        "artifact_digest": version.artifact_digest,
        "size_bytes": version.size_bytes,
        "flavor": version.flavor,
        "signature": {
            "inputs": version.signature.get("inputs", []),
            "outputs": version.signature.get("outputs", []),
        },
        "input_constraints": version.input_constraints,
        "metrics": version.metrics,
        "params": version.params,
        "run_id": version.run_id,
        "description": version.description,
        "aliases": sorted(alias.name for alias in version.aliases.all()),
        "tags": {tag.key: tag.value for tag in version.tags.all()},
        "created_at": iso(version.created_at),
        "created_by": version.created_by,
        "updated_at": iso(version.updated_at),
    }


def comparison_show(stable: ModelVersion, candidate: ModelVersion) -> dict[str, Any]:
    """Two versions of one model beside each other. Reads ``model`` and ``tags``."""
    differences = drop_in_problems(stable, candidate)
    digests = {stable.metrics_data_digest, candidate.metrics_data_digest}
    return {
        "object": "version_comparison",
        "model": stable.model.name,
        "stable": stable.reference,
        "candidate": candidate.reference,
        "is_drop_in": not differences,
        "differences": [difference.as_dict() for difference in differences],
        "is_same_artifact": bool(stable.artifact_digest) and stable.artifact_digest == candidate.artifact_digest,
        "is_same_data": None if "" in digests else len(digests) == 1,
        "inputs": pairs(_columns(stable, "inputs"), _columns(candidate, "inputs")),
        "outputs": pairs(_columns(stable, "outputs"), _columns(candidate, "outputs")),
        "metrics": metric_pairs(stable.metrics, candidate.metrics),
        "params": pairs(stable.params, candidate.params),
        "profile": pairs(_profile(stable), _profile(candidate)),
        "tags": pairs(*({tag.key: tag.value for tag in one.tags.all()} for one in (stable, candidate))),
    }


def _columns(version: ModelVersion, side: str) -> dict[str, Any]:
    return columns(version.signature.get(side, []), version.input_constraints if side == "inputs" else {})


def _profile(version: ModelVersion) -> dict[str, Any]:
    found = version.reference_profile.get("columns", version.reference_profile)
    return dict(found) if isinstance(found, dict) else {}


def alias_show(alias: Alias, model_name: str) -> dict[str, Any]:
    return {
        "object": "alias",
        "alias": alias.name,
        "model": model_name,
        "version": alias.version.reference,
        "moved_at": iso(alias.moved_at),
    }


def alias_move_show(move: AliasMove) -> dict[str, Any]:
    """Reads ``model``, ``from_version`` and ``to_version``: select them."""
    return {
        "object": "alias_move",
        "alias": move.name,
        "model": move.model.name,
        "from_version": _reference(move.from_version),
        "to_version": _reference(move.to_version),
        "at": iso(move.at),
        "moved_by": move.moved_by,
        "promotion": move.request_id,
        "review": move.review_id or None,
        "rollout": move.rollout_id or None,
        "approved_by": move.people,
    }


def alias_at_show(move: AliasMove | None, model_name: str, alias: str, moment: datetime) -> dict[str, Any]:
    return {
        "object": "alias_at",
        "alias": alias,
        "model": model_name,
        "at": iso(moment),
        "version": _reference(move.to_version) if move else None,
        "move": alias_move_show(move) if move else None,
    }


def promotion_show(request: PromotionRequest) -> dict[str, Any]:
    """Reads ``model``, ``version`` and ``seen_version``: select them."""
    return {
        "id": request.pk,
        "object": "promotion",
        "model": request.model.name,
        "alias": request.alias,
        "version": _reference(request.version),
        "seen_version": _reference(request.seen_version),
        "state": request.state,
        "review": request.review_id or None,
        "rollout": request.rollout_id or None,
        "asked_by": request.asked_by,
        "asked_at": iso(request.asked_at),
        "note": request.note,
        "settled_by": request.settled_by,
        "settled_at": iso(request.settled_at) if request.settled_at else None,
    }


def _reference(version: ModelVersion | None) -> str | None:
    return version.reference if version else None
