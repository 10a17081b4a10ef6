"""Which container image holds a version: recorded by whoever built it, used wherever containers run."""

from __future__ import annotations

from django.db import transaction

from apps.kernel.actor import Actor
from apps.kernel.clock import now
from apps.kernel.errors import PolicyRefused
from apps.registry.domain.images import exact_image
from apps.registry.domain.words import VersionStatus
from apps.registry.models import ModelVersion
from apps.registry.services.announce import version_record
from apps.registry.services.locks import model_locked, version_locked

ACTION = "model.register"


def version_image_record(*, actor: Actor, model_name: str, number: int, image: str, built_by: str = "") -> ModelVersion:
    """Record that ``image`` (by digest) is a server with this version's files in it; "" forgets it.

    What runs already keeps the image that its plan names. ``built_by`` is for the audit entry: a build's id.
    Raises InvalidInput ``bad_image`` and ``digest_missing``, NotFound, Forbidden (``model.register``), PolicyRefused
    ``version_not_ready``.
    """
    exact = exact_image(image) if image.strip() else ""
    with transaction.atomic():
        model = model_locked(model_name, actor=actor, action=ACTION)
        version = version_locked(model, number)
        if version.status != VersionStatus.READY:
            detail = f"Version {version.reference} is {version.status}; an image belongs to a ready version."
            raise PolicyRefused("version_not_ready", detail)
        if version.image == exact:
            return version
        before, version.image, version.updated_at = version.image, exact, now()
        version.save(update_fields=["image", "updated_at"])
        built = {"built_by": built_by} if built_by else {}
        version_record(actor, "version.image_recorded", model, version, before=before, after=exact, **built)
    return version
