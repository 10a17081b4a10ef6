"""Builds of images in a target's cluster: asked for here, given to the target and watched by workers.

    QUEUED ──given to the target──> RUNNING ──> SUCCEEDED (the image is recorded at the version) | FAILED
       └──────────────┴── stopped by a person ──> STOPPED

Every step is one conditional UPDATE; a worker that dies between two of them is replaced by the next that looks.
"""

from __future__ import annotations

from datetime import timedelta

from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.db.models.functions import Now

from apps.accounts.services.access import access_require
from apps.audit.services.record import event_record
from apps.kernel.actor import SYSTEM, Actor
from apps.kernel.clock import now
from apps.kernel.errors import Conflict, DomainError, DriverError, NotFound, PolicyRefused
from apps.kernel.services.outbox import enqueue_task, publish_live
from apps.registry.selectors import readable_q, version_by
from apps.registry.services.images import version_image_record
from apps.targets.images.builds import OPEN, BuildSeen, BuildState, ImageBuilder
from apps.targets.images.job import BuildOrder, BuildSettings, pushed_to
from apps.targets.images.spec import DEFAULT_BASE, ModelFrom, base_check
from apps.targets.models import ImageBuild, Target
from apps.targets.selectors import environments_for, target_get, target_list
from apps.targets.services.drivers import driver_for
from apps.targets.services.images import image_spec, spec_archive

ACTION = "image.build"
LOOK_SECONDS = 5
QUEUE_SECONDS = 3600
BATCH = 50


def image_build_start(*, actor: Actor, model_name: str, reference: str, target_id: str, base: str = "") -> ImageBuild:
    """Ask for a build of a version's image in the cluster of a target.

    Raises NotFound, Forbidden (``image.build`` in the model's team and the target's environment), InvalidInput,
    PolicyRefused ``builds_not_set_up``, ``files_not_stored`` and ``version_unverified``, Conflict ``build_under_way``.
    """
    version, target = version_by(model_name, reference, actor=actor), target_get(target_id, actor)
    access_require(actor, ACTION, version.model.team_id, target.environment)
    settings = _settings_of(target)
    spec = image_spec(version, base=base, url=settings.url)
    if spec.model_from is not ModelFrom.REGISTRY:
        raise PolicyRefused(
            "files_not_stored",
            f"The files of {version.reference} are not in the store, so no build can fetch them; ingest them.",
            extra={"version": version.pk},
        )
    image = pushed_to(settings, spec.name, spec.tag)
    try:
        with transaction.atomic():
            build = ImageBuild.objects.create(
                target=target, version=version, image=image, base=base_check(base) if base else DEFAULT_BASE,
                asked_by=actor.label,
            )  # fmt: skip
            enqueue_task("targets.image_build", build_id=build.pk)
            publish_live("fleet", id=build.pk, revision=0)
            _record(actor, "image_build.started", build, {"target": target.name, "image": image, "base": build.base})
    except IntegrityError as error:
        raise Conflict(
            "build_under_way", f"An image of {version.reference} is being built on {target.name} already; look there."
        ) from error
    return image_build_get(build.pk)


def image_build_stop(*, actor: Actor, build_id: str) -> ImageBuild:
    """Stop a build that has not ended. Raises NotFound, Forbidden, Conflict ``build_ended``."""
    build = image_build_get(build_id, actor)
    access_require(actor, ACTION, build.version.model.team_id, build.target.environment)
    with transaction.atomic():
        if not _move(build, BuildState.STOPPED, reason=f"Stopped by {actor.label}."):
            raise Conflict("build_ended", f"The build has ended already: {build.state}.")
        enqueue_task("targets.image_build", build_id=build.pk)
        _record(actor, "image_build.stopped", build, {})
    return image_build_get(build_id)


def image_build_get(build_id: str, actor: Actor | None = None) -> ImageBuild:
    """Raises NotFound, also for one of a team that the actor may not see."""
    found = image_build_list(actor).filter(pk=build_id).first()
    if found is None:
        raise NotFound("build_unknown", f"There is no build {build_id[:60]}.")
    return found


def image_build_list(actor: Actor | None = None) -> QuerySet[ImageBuild]:
    """Newest first, with target, version and model; with ``actor`` those that they may see."""
    found = ImageBuild.objects.select_related("target", "version__model").order_by("-asked_at")
    return found.filter(readable_q(actor, "version__model__team_id"))


def builders_for(actor: Actor) -> list[Target]:
    """The targets that build images, of the environments in which the actor may ask for it. Asks no target."""
    environments = set(environments_for(actor, ACTION))
    return [one for one in target_list(actor) if one.environment in environments and _builds(one)]


def image_builds_due(limit: int = BATCH) -> int:
    """Look at the builds whose turn it is; how many."""
    due = ImageBuild.objects.filter(state__in=OPEN, look_due_at__lte=Now())
    ids = list(due.order_by("look_due_at").values_list("pk", flat=True)[:limit])
    for build_id in ids:
        image_build_tick(build_id)
    return len(ids)


def image_build_tick(build_id: str) -> None:
    """One step of one build. Call it outside any transaction: it asks the target."""
    build = image_build_list().filter(pk=build_id).first()
    if build is None:
        return
    try:
        driver = _builder_of(build.target)
        if build.state == BuildState.STOPPED:
            driver.build_stop(build.job_name)
        elif build.state == BuildState.QUEUED:
            driver.build_start(_order(build, driver.build_settings))
            _move(build, BuildState.RUNNING)
        elif build.state == BuildState.RUNNING:
            _settle(build, driver.build_look(build.job_name))
    except DomainError as fault:
        _excuse(build, fault.detail, is_final=not fault.is_retryable)


def _order(build: ImageBuild, settings: BuildSettings | None) -> BuildOrder:
    """Raises PolicyRefused when the version lost its files meanwhile."""
    spec = image_spec(build.version, base=build.base, url=settings.url if settings else "")
    if spec.model_from is not ModelFrom.REGISTRY:
        raise PolicyRefused("files_not_stored", "The version's files are no longer in the store.")
    labels = {"app.kubernetes.io/name": spec.name[:63].strip("-"), "app.kubernetes.io/version": spec.tag[:63]}
    return BuildOrder(build.job_name, build.image, spec_archive(spec), labels)


def _settle(build: ImageBuild, seen: BuildSeen | None) -> None:
    if seen is None:
        _end(build, BuildState.FAILED, reason="Its Job is no longer in the cluster: somebody deleted it. Build again.")
    elif seen.state is BuildState.SUCCEEDED:
        _end(build, BuildState.SUCCEEDED, digest=seen.digest)
    elif seen.state is BuildState.FAILED:
        _end(build, BuildState.FAILED, reason=seen.reason)
    else:
        _later(build, seen.reason)


def _end(build: ImageBuild, state: BuildState, *, digest: str = "", reason: str = "") -> None:
    """The outcome, the image at the version and the audit entry, at once or not at all."""
    with transaction.atomic():
        if not _move(build, state, digest=digest, reason=reason):
            return
        if digest:
            name = build.image.rpartition(":")[0]
            version_image_record(
                actor=SYSTEM, model_name=build.version.model.name, number=build.version.number,
                image=f"{name}@{digest}", built_by=build.pk,
            )  # fmt: skip
        _record(SYSTEM, "image_build.ended", build, {"state": state.value, "digest": digest, "reason": reason[:500]})


def _excuse(build: ImageBuild, reason: str, *, is_final: bool) -> None:
    """A fault of the target: tried again later, but not for ever."""
    is_late = build.state == BuildState.QUEUED and now() - build.asked_at > timedelta(seconds=QUEUE_SECONDS)
    if build.state in OPEN and (is_final or is_late):
        _end(build, BuildState.FAILED, reason=reason)
    elif build.state in OPEN:
        _later(build, reason)


def _later(build: ImageBuild, reason: str) -> None:
    """Look again soon; a sentence that is news is shown."""
    rows = ImageBuild.objects.filter(pk=build.pk, state=build.state)
    rows.update(reason=reason, look_due_at=now() + timedelta(seconds=LOOK_SECONDS))
    if reason != build.reason:
        with transaction.atomic():
            publish_live("fleet", id=build.pk, revision=int(now().timestamp()))


def _move(build: ImageBuild, state: BuildState, *, digest: str = "", reason: str = "") -> bool:
    """False when somebody else moved it first, or it has ended."""
    before = [build.state] if state is not BuildState.STOPPED else list(OPEN)
    is_over = state not in OPEN
    with transaction.atomic():
        rows = ImageBuild.objects.filter(pk=build.pk, state__in=before).filter(state__in=OPEN)
        moved = rows.update(
            state=state, digest=digest, reason=reason, ended_at=now() if is_over else None,
            look_due_at=now() + timedelta(seconds=LOOK_SECONDS),
        )  # fmt: skip
        if moved:
            publish_live("fleet", id=build.pk, revision=int(now().timestamp()))
    return bool(moved)


def _builder_of(target: Target) -> ImageBuilder:
    driver = driver_for(target)
    if not isinstance(driver, ImageBuilder):
        raise DriverError("builds_not_set_up", f"Target {target.name} builds no images any more.")
    return driver


def _settings_of(target: Target) -> BuildSettings:
    driver = driver_for(target)
    settings = driver.build_settings if isinstance(driver, ImageBuilder) else None
    if settings is None:
        raise PolicyRefused(
            "builds_not_set_up",
            f"Target {target.name} builds no images: its connection has no `build`. Connect one that has, or build in "
            "your CI.",
        )
    return settings


def _builds(target: Target) -> bool:
    return bool(target.connection.get("build"))


def _record(actor: Actor, verb: str, build: ImageBuild, detail: dict[str, str]) -> None:
    version = build.version
    label = f"the image build of {version.model.name} {version.reference}"
    event_record(
        actor=actor, verb=verb, subject_kind="image_build", subject_id=build.pk, subject_label=label, detail=detail
    )
