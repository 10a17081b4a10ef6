"""The container image of a version: how to build it, where it is, and builds in a cluster."""

from __future__ import annotations

from typing import Any, ClassVar, cast

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from rest_framework import serializers
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from apps.accounts.api_access import idempotent
from apps.kernel.rest import (
    ApiView,
    PageQuery,
    StrictChar,
    StrictSerializer,
    actor_of,
    body_of,
    iso,
    operation,
    page_of,
    page_schema,
    query_of,
)
from apps.registry.selectors import version_by
from apps.registry.services.images import version_image_record
from apps.targets.images.builds import BuildState
from apps.targets.images.spec import DEFAULT_BASE, ModelFrom
from apps.targets.models import ImageBuild
from apps.targets.services.image_builds import (
    image_build_get,
    image_build_list,
    image_build_start,
    image_build_stop,
)
from apps.targets.services.images import ImageShown, image_context, image_show

TAG = "images"
VERSION = {"model_name": "The model's name.", "version": "major.minor.patch, a number, or an alias."}
BASE_HELP = f"The image below: a tag other than latest, or a digest; empty: {DEFAULT_BASE}."


class ImageQuery(StrictSerializer):
    base = StrictChar(max_length=512, allow_blank=True, default="", help_text=BASE_HELP)
    model_from = StrictChar(
        max_length=10,
        allow_blank=True,
        default="",
        help_text=f"Where the build gets the files: {', '.join(ModelFrom)}; empty: the registry if it stores them.",
    )


class ImageShowQuery(ImageQuery):
    endpoint = StrictChar(max_length=63, allow_blank=True, default="", help_text="For the pipelines: what to roll out.")


class ImageBody(StrictSerializer):
    image = StrictChar(
        max_length=600, allow_blank=True, help_text="registry/name@sha256:…, as the push printed it; empty forgets it."
    )


class BuildBody(StrictSerializer):
    target = StrictChar(max_length=80, help_text="The target whose cluster builds: name or id.")
    base = StrictChar(max_length=512, allow_blank=True, default="", help_text=BASE_HELP)


class ImageSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    model = serializers.CharField()
    version = serializers.CharField()
    image = serializers.CharField(allow_blank=True, help_text="The recorded image by digest; empty for none.")
    artifact_digest = serializers.CharField()
    base = serializers.CharField()
    model_from = serializers.ChoiceField(choices=[one.value for one in ModelFrom])
    dockerfile = serializers.CharField()
    steps = serializers.CharField(help_text="The same in a terminal.")
    github = serializers.CharField(help_text="A workflow for GitHub Actions.")
    gitlab = serializers.CharField(help_text="A pipeline for GitLab CI.")
    warnings = serializers.ListField(child=serializers.CharField())


class RecordedSchema(serializers.Serializer[Any]):
    object = serializers.CharField()
    model = serializers.CharField()
    version = serializers.CharField()
    image = serializers.CharField(allow_blank=True)


class BuildSchema(serializers.Serializer[Any]):
    id = serializers.CharField()
    object = serializers.CharField()
    model = serializers.CharField()
    version = serializers.CharField()
    target = serializers.CharField()
    state = serializers.ChoiceField(choices=[one.value for one in BuildState])
    image = serializers.CharField(help_text="Where it is pushed to.")
    digest = serializers.CharField(allow_blank=True)
    base = serializers.CharField()
    reason = serializers.CharField(allow_blank=True)
    asked_by = serializers.CharField()
    asked_at = serializers.DateTimeField()
    ended_at = serializers.DateTimeField(allow_null=True)


class ImageView(ApiView):
    action_required: ClassVar = {"GET": "model.read", "PUT": "model.register"}

    @operation(
        "version_image_get",
        "How to build the container image of a version, and where it is",
        tag=TAG,
        description="The Dockerfile and pipelines are made from the version alone: equal versions give equal files.",
        path=VERSION,
        query=ImageShowQuery,
        answers={200: ImageSchema},
    )
    def get(self, request: Request, model_name: str, version: str) -> Response:
        asked = query_of(request, ImageShowQuery)
        return Response(_image(image_show(actor=actor_of(request), model_name=model_name, reference=version, **asked)))

    # Saying the same again changes nothing, so a repeat needs no key.
    @operation(
        "version_image_record",
        "Record the container image of a version",
        tag=TAG,
        description="By digest. Clusters run it from the next rollout on; what runs keeps the image that it has.",
        path=VERSION,
        body=ImageBody,
        answers={200: RecordedSchema},
    )
    def put(self, request: Request, model_name: str, version: str) -> Response:
        actor, asked = actor_of(request), body_of(request, ImageBody)
        found = version_by(model_name, version, actor=actor)
        kept = version_image_record(actor=actor, model_name=model_name, number=found.number, image=asked["image"])
        names = {"model": model_name, "version": kept.reference, "image": kept.image}
        return Response({"object": "version_image", **names})


class ArchiveRenderer(BaseRenderer):
    """Only announces the media type: the answer is the archive itself."""

    media_type = "application/gzip"
    format = "gz"


class ImageContextView(ApiView):
    action_required = "model.read"
    renderer_classes = (JSONRenderer, ArchiveRenderer)

    @operation(
        "version_image_context",
        "The folder that the image is built in",
        tag=TAG,
        description="A tar.gz with Dockerfile, requirements and the serving program, without the model's own files.",
        path=VERSION,
        query=ImageQuery,
        answers={(200, "application/gzip"): OpenApiTypes.BINARY},  # type: ignore[dict-item]
    )
    def get(self, request: Request, model_name: str, version: str) -> Response:
        asked = query_of(request, ImageQuery)
        spec, content = image_context(actor=actor_of(request), model_name=model_name, reference=version, **asked)
        answer = HttpResponse(content, content_type="application/gzip")
        answer["Content-Disposition"] = f'attachment; filename="{spec.name}-{spec.tag}-image.tar.gz"'
        return cast(Response, answer)  # REST framework takes any HttpResponse


class ImageBuildsView(ApiView):
    action_required: ClassVar = {"GET": "model.read", "POST": "image.build"}

    @operation(
        "version_image_build_list",
        "Builds of a version's image, newest first",
        tag=TAG,
        path=VERSION,
        query=PageQuery,
        answers={200: page_schema("ImageBuild", BuildSchema)},
    )
    def get(self, request: Request, model_name: str, version: str) -> Response:
        actor = actor_of(request)
        found = image_build_list(actor).filter(version=version_by(model_name, version, actor=actor))
        return Response(page_of(found, key="-id", show=_build, **query_of(request, PageQuery)))

    @operation(
        "version_image_build_start",
        "Build a version's image in a target's cluster",
        tag=TAG,
        description="A worker gives it to the cluster; read it until `ended_at` is set. The digest is recorded at the "
        "version by itself.",
        path=VERSION,
        body=BuildBody,
        errors=(409,),
        is_idempotent=True,
        answers={202: BuildSchema},
    )
    @idempotent
    def post(self, request: Request, model_name: str, version: str) -> Response:
        actor, asked = actor_of(request), body_of(request, BuildBody)
        build = image_build_start(
            actor=actor, model_name=model_name, reference=version, target_id=asked["target"], base=asked["base"]
        )
        return Response(_build(build), status=202, headers={"Location": f"/api/v1/image-builds/{build.pk}"})


class ImageBuildView(ApiView):
    action_required = "model.read"

    @operation("image_build_get", "One build", tag=TAG, path={"build_id": "Its id, ib_…"}, answers={200: BuildSchema})
    def get(self, request: Request, build_id: str) -> Response:
        return Response(_build(image_build_get(build_id, actor_of(request))))


class ImageBuildStopView(ApiView):
    action_required = "image.build"

    @operation(
        "image_build_stop",
        "Stop a build",
        tag=TAG,
        path={"build_id": "Its id, ib_…"},
        errors=(409,),
        answers={200: BuildSchema},
    )
    def post(self, request: Request, build_id: str) -> Response:
        return Response(_build(image_build_stop(actor=actor_of(request), build_id=build_id)))


def _image(shown: ImageShown) -> dict[str, Any]:
    spec = shown.spec
    return {
        "object": "version_image",
        "model": spec.model,
        "version": spec.version,
        "image": shown.image,
        "artifact_digest": spec.digest,
        "base": spec.base,
        "model_from": spec.model_from.value,
        "dockerfile": shown.dockerfile,
        "steps": shown.steps,
        "github": shown.github,
        "gitlab": shown.gitlab,
        "warnings": list(shown.warnings),
    }


def _build(build: ImageBuild) -> dict[str, Any]:
    return {
        "id": build.pk,
        "object": "image_build",
        "model": build.version.model.name,
        "version": build.version.reference,
        "target": build.target.name,
        "state": build.state,
        "image": build.image,
        "digest": build.digest,
        "base": build.base,
        "reason": build.reason,
        "asked_by": build.asked_by,
        "asked_at": iso(build.asked_at),
        "ended_at": iso(build.ended_at) if build.ended_at else None,
    }
