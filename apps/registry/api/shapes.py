"""What the API says about models and versions: rows to JSON, and the schemas of that JSON."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from apps.kernel.rest import iso
from apps.registry.models import Alias, Model, ModelVersion, VersionStatus


class AliasSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    alias = serializers.CharField()
    model = serializers.CharField()
    version = serializers.CharField()
    moved_at = serializers.DateTimeField()


class ModelSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    name = serializers.CharField()
    description = serializers.CharField(allow_blank=True)
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()
    latest_version = serializers.CharField(allow_null=True)
    version_count = serializers.IntegerField()
    aliases = serializers.DictField(child=serializers.CharField(), help_text="Alias to version.")


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
    source_uri = serializers.CharField()
    artifact_digest = serializers.CharField()
    size_bytes = serializers.IntegerField()
    flavor = serializers.CharField(allow_blank=True)
    signature = SignatureSchema()
    input_constraints = serializers.DictField()
    metrics = serializers.DictField()
    params = serializers.DictField()
    run_id = serializers.CharField(allow_blank=True)
    description = serializers.CharField(allow_blank=True)
    aliases = serializers.ListField(child=serializers.CharField())
    created_at = serializers.DateTimeField()
    created_by = serializers.CharField()


class DifferenceSchema(serializers.Serializer[Any]):
    column = serializers.CharField()
    what = serializers.CharField()
    before = serializers.CharField(allow_blank=True)
    after = serializers.CharField(allow_blank=True)
    detail = serializers.CharField()


class ComparisonSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    model = serializers.CharField()
    stable = serializers.CharField()
    candidate = serializers.CharField()
    is_drop_in = serializers.BooleanField(help_text="Whether every call made for stable is answered by candidate.")
    differences = DifferenceSchema(many=True)


def model_show(model: Model) -> dict[str, Any]:
    """Reads ``versions`` and ``aliases__version``: prefetch them."""
    versions = sorted(model.versions.all(), key=lambda one: (one.major, one.minor, one.patch))
    return {
        "id": model.id,
        "object": "model",
        "name": model.name,
        "description": model.description,
        "created_at": iso(model.created_at),
        "created_by": model.created_by,
        "latest_version": versions[-1].semver if versions else None,
        "version_count": len(versions),
        "aliases": {alias.name: alias.version.semver for alias in model.aliases.all()},
    }


def version_show(version: ModelVersion) -> dict[str, Any]:
    """Reads ``model`` and ``aliases``: select and prefetch them."""
    return {
        "id": version.id,
        "object": "model_version",
        "model": version.model.name,
        "version": version.semver,
        "number": version.number,
        "variant_key": version.variant_key,
        "status": version.status,
        "status_message": version.status_message,
        "source_uri": version.source_uri,
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
        "created_at": iso(version.created_at),
        "created_by": version.created_by,
    }


def alias_show(alias: Alias, model_name: str) -> dict[str, Any]:
    return {
        "object": "alias",
        "alias": alias.name,
        "model": model_name,
        "version": alias.version.semver,
        "moved_at": iso(alias.moved_at),
    }
