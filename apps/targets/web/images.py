"""The part of a version's page that says how its container image is built and where it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import conditional_page

from apps.accounts.web_access import actor_of_request, declares, why_not_of
from apps.kernel.errors import Conflict, InvalidInput, PolicyRefused
from apps.registry.selectors import version_by
from apps.registry.services.images import version_image_record
from apps.targets.images.builds import OPEN, BuildState
from apps.targets.models import ImageBuild
from apps.targets.selectors import endpoint_list
from apps.targets.services.image_builds import (
    ACTION,
    builders_for,
    image_build_list,
    image_build_start,
    image_build_stop,
)
from apps.targets.services.images import image_shown

if TYPE_CHECKING:
    from apps.registry.models import ModelVersion

SHOWN = 5
LEVELS = {
    BuildState.QUEUED: "progressing",
    BuildState.RUNNING: "progressing",
    BuildState.SUCCEEDED: "ok",
    BuildState.FAILED: "bad",
    BuildState.STOPPED: "unknown",
}


@declares("model.read")
@cache_control(private=True, no_cache=True)
@conditional_page
def version_image(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """Fragment: the recorded image, the Dockerfile, pipelines to copy, builds in clusters."""
    actor = actor_of_request(request)
    version = version_by(name, reference, actor=actor)
    serving = endpoint_list(actor).filter(model__name=name).values_list("name", flat=True).first()
    shown = image_shown(version, endpoint=serving or "")
    builds = [(build, LEVELS[BuildState(build.state)], build.state in OPEN) for build in _builds(version)]
    context = {
        "shown": shown,
        "version": version,
        "builds": builds,
        "builders": builders_for(actor),
        "why_not_build": why_not_of(request, ACTION, version.model),
        "why_not_record": why_not_of(request, "model.register", version.model),
    }
    return render(request, "targets/_version_image.html", context)


@declares({"POST": "model.register"})
def record(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """Records the image that was built elsewhere."""
    actor = actor_of_request(request)
    found = version_by(name, reference, actor=actor)
    image = request.POST.get("image", "").strip()

    def change() -> None:
        version_image_record(actor=actor, model_name=name, number=found.number, image=image)

    return _change(request, name, reference, change, "The image is recorded." if image else "The image is forgotten.")


@declares({"POST": "image.build"})
def build(request: HttpRequest, name: str, reference: str) -> HttpResponse:
    """Asks for a build in the chosen target's cluster."""
    actor, target = actor_of_request(request), request.POST.get("target", "")

    def change() -> None:
        image_build_start(actor=actor, model_name=name, reference=reference, target_id=target)

    return _change(request, name, reference, change, "The build is asked for; its state follows below.")


@declares({"POST": "image.build"})
def stop(request: HttpRequest, name: str, reference: str, build_id: str) -> HttpResponse:
    """Stops a build."""
    actor = actor_of_request(request)
    return _change(
        request, name, reference, lambda: image_build_stop(actor=actor, build_id=build_id), "The build is stopped."
    )


def _change(request: HttpRequest, name: str, reference: str, change: Callable[[], object], done: str) -> HttpResponse:
    """Forbidden and NotFound are raised; what is refused for another reason is said on the page."""
    try:
        change()
    except (InvalidInput, PolicyRefused, Conflict) as fault:
        messages.error(request, f"{fault.detail} Nothing was changed.")
    else:
        messages.success(request, done)
    return redirect("registry:version", name, reference)


def _builds(version: ModelVersion) -> list[ImageBuild]:
    return list(image_build_list().filter(version=version)[:SHOWN])
