"""/api/v1: bring in a version's files, the rules of formats, imports from other registries."""

from __future__ import annotations

from typing import Any, ClassVar

from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent
from apps.kernel.rest import (
    ApiView,
    PageQuery,
    StrictBoolean,
    StrictChar,
    StrictInteger,
    StrictSerializer,
    actor_of,
    body_of,
    operation,
    page_of,
    page_schema,
    query_of,
)
from apps.registry.api.shapes import VersionSchema, version_show
from apps.registry.domain.importing import ImportState
from apps.registry.models import FormatRule
from apps.registry.selectors import version_by
from apps.registry.selectors.imports import import_get, import_list, import_show
from apps.registry.services.importing import import_again, import_create, import_stop
from apps.registry.services.verify_ingest import version_ingest_ask
from apps.registry.services.verify_policy import SCOPES, format_rule_set, format_rules

TAG = "models"
IMPORTS = "imports"


class IngestBody(StrictSerializer):
    source = StrictChar(
        max_length=2000,
        allow_blank=True,
        default="",
        help_text="An upload address or a place that workers may read; empty: where it was registered.",
    )  # type: ignore[assignment]


class RuleBody(StrictSerializer):
    scope = serializers.ChoiceField(choices=SCOPES)
    name = StrictChar(max_length=256, allow_blank=True, default="", help_text="The model's name or the team's key.")
    allowed = serializers.ListField(child=StrictChar(max_length=40), default=list, max_length=50)
    allow_pickle = StrictBoolean()
    reason = StrictChar(max_length=2000, allow_blank=True, default="")


class RuleSchema(serializers.Serializer[Any]):
    id = serializers.IntegerField()
    object = serializers.CharField()
    scope = serializers.CharField()
    scope_id = serializers.CharField(allow_blank=True)
    allowed = serializers.ListField(child=serializers.CharField())
    allow_pickle = serializers.BooleanField()
    reason = serializers.CharField(allow_blank=True)
    set_by = serializers.CharField()


class ImportBody(StrictSerializer):
    url = StrictChar(max_length=1000)
    team = StrictChar(max_length=80, allow_blank=True, default="", help_text="Who owns what is imported: slug or id.")
    username = StrictChar(max_length=200, allow_blank=True, default="")
    credential = StrictChar(max_length=4000, allow_blank=True, default="", help_text="Never shown again.")
    with_artifacts = StrictBoolean(default=True, help_text="Bring the files along; without, entries of the catalogue.")
    sync_seconds = StrictInteger(min_value=0, max_value=30 * 86_400, default=0, help_text="0: once.")


class ImportRunBody(StrictSerializer):
    with_artifacts = StrictBoolean(required=False, help_text="Whether files come along from now on; as before without.")


class SkippedSchema(serializers.Serializer[Any]):
    model = serializers.CharField(allow_blank=True)
    reason = serializers.CharField()


class LeftSchema(serializers.Serializer[Any]):
    model = serializers.CharField()
    version = serializers.CharField()
    reason = serializers.CharField()


class FilesSchema(serializers.Serializer[Any]):
    here = serializers.IntegerField(help_text="Versions whose files were read and are kept here.")
    waiting = serializers.IntegerField(help_text="Versions whose files are being brought.")
    missing = serializers.IntegerField(help_text="Versions that stayed without their files.")
    left = LeftSchema(many=True, help_text="The first 200 of them, and why.")
    way_out = serializers.CharField(allow_blank=True)


class ImportSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    url = serializers.CharField()
    team = serializers.CharField(help_text="The slug of the team that owns what is imported.")
    state = serializers.ChoiceField(choices=[one.value for one in ImportState])
    with_artifacts = serializers.BooleanField()
    sync_seconds = serializers.IntegerField()
    run = serializers.IntegerField()
    counts = serializers.DictField(child=serializers.IntegerField())
    skipped = SkippedSchema(many=True)
    files = FilesSchema()
    error = serializers.CharField(allow_blank=True)
    has_credential = serializers.BooleanField()


class IngestView(ApiView):
    action_required = "model.register"

    @operation(
        "version_ingest",
        "Bring the files of a version into the store",
        tag=TAG,
        description="For versions that are entries of the catalogue only, or whose stored files were damaged. A worker "
        "does it: read the version until its trust is verified, or its status_message says why not.",
        path={"model_name": "The model's name.", "version": "major.minor.patch, a number, or an alias."},
        body=IngestBody,
        errors=(409,),
        is_idempotent=True,
        answers={202: VersionSchema},
    )
    @idempotent
    def post(self, request: Request, model_name: str, version: str) -> Response:
        asked = body_of(request, IngestBody)
        actor = actor_of(request)
        found = version_by(model_name, version, actor=actor)
        return Response(version_show(version_ingest_ask(actor=actor, version=found, **asked)), status=202)


class FormatRulesView(ApiView):
    action_required: ClassVar = {"GET": "model.read", "PUT": "policy.write"}

    @operation(
        "format_rule_list",
        "Which formats may be registered beside the default ones",
        tag=TAG,
        query=PageQuery,
        answers={200: page_schema("FormatRule", RuleSchema)},
    )
    def get(self, request: Request) -> Response:
        return Response(page_of(format_rules(actor_of(request)), key="id", show=_rule, **query_of(request, PageQuery)))

    @operation(
        "format_rule_set", "Set the rule of a model, a team or all", tag=TAG, body=RuleBody, answers={200: RuleSchema}
    )
    def put(self, request: Request) -> Response:
        return Response(_rule(format_rule_set(actor=actor_of(request), **body_of(request, RuleBody))))


class ImportsView(ApiView):
    action_required: ClassVar = {"GET": "model.read", "POST": "registry.import"}

    @operation(
        "import_list",
        "Imports from other registries",
        tag=IMPORTS,
        query=PageQuery,
        answers={200: page_schema("Import", ImportSchema)},
    )
    def get(self, request: Request) -> Response:
        return Response(
            page_of(import_list(actor_of(request)), key="id", show=import_show, **query_of(request, PageQuery))
        )

    @operation(
        "import_create",
        "Import from an MLflow server, once or again and again",
        tag=IMPORTS,
        body=ImportBody,
        is_idempotent=True,
        answers={201: ImportSchema},
    )
    @idempotent
    def post(self, request: Request) -> Response:
        job = import_create(actor=actor_of(request), **body_of(request, ImportBody))
        return Response(import_show(job), status=201, headers={"Location": f"/api/v1/imports/{job.pk}"})


class ImportView(ApiView):
    action_required = "model.read"

    @operation(
        "import_get",
        "One import and how far it is",
        tag=IMPORTS,
        path={"import_id": "Its id."},
        answers={200: ImportSchema},
    )
    def get(self, request: Request, import_id: str) -> Response:
        return Response(import_show(import_get(import_id, actor=actor_of(request))))


class ImportRunView(ApiView):
    action_required = "registry.import"

    @operation(
        "import_run",
        "Run a finished import once more",
        tag=IMPORTS,
        path={"import_id": "Its id."},
        body=ImportRunBody,
        errors=(409,),
        answers={202: ImportSchema},
    )
    def post(self, request: Request, import_id: str) -> Response:
        asked = body_of(request, ImportRunBody)
        return Response(import_show(import_again(actor=actor_of(request), job_id=import_id, **asked)), status=202)


class ImportStopView(ApiView):
    action_required = "registry.import"

    @operation(
        "import_stop",
        "Stop an import and its repetitions",
        tag=IMPORTS,
        path={"import_id": "Its id."},
        answers={200: ImportSchema},
    )
    def post(self, request: Request, import_id: str) -> Response:
        return Response(import_show(import_stop(actor=actor_of(request), job_id=import_id)))


def _rule(rule: FormatRule) -> dict[str, Any]:
    names = ("id", "scope", "scope_id", "allowed", "allow_pickle", "reason", "set_by")
    return {"object": "format_rule", **{name: getattr(rule, name) for name in names}}
