"""What a source means to this installation. The text itself is never followed by the web process."""

from __future__ import annotations

import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from django.conf import settings

from apps.kernel.actor import Actor
from apps.kernel.errors import NotFound, PolicyRefused
from apps.registry.domain.words import VersionStatus
from apps.registry.models import ModelVersion
from apps.registry.selectors import readable_q

_REGISTERED = re.compile(r"models:/([^/@]+)(?:/(\d{1,9})|@([\w\-]+))")
_OWN_FOLDERS = ("artifacts", "mlflow")


def is_readable_here(source: str) -> bool:
    """Whether a worker may look at ``source``: a folder below this installation's own artifact folders.

    Told from the text alone (``..`` never is), so that nobody learns from the answer what lies on this machine.
    """
    parts = urlsplit(source)
    if parts.scheme not in {"", "file"} or parts.netloc not in {"", "localhost"} or "\0" in source:
        return False
    path = Path(unquote(parts.path) if parts.scheme else source)
    if not path.is_absolute() or ".." in path.parts:
        return False
    return any(path.is_relative_to(Path(settings.PILOTHOUSE_HOME) / folder) for folder in _OWN_FOLDERS)


def registered_source(source: str, *, actor: Actor) -> ModelVersion | None:
    """The version of this registry that ``models:/name/number`` or ``models:/name@alias`` names, else None.

    Raises NotFound for one that is not there or that the actor may not read, PolicyRefused for one that is not ready.
    """
    match = _REGISTERED.fullmatch(source)
    if match is None:
        return None
    name, number, alias = match.groups()
    found = ModelVersion.objects.filter(readable_q(actor, "model__team_id"), model__name=name, model__deleted_at=None)
    found = found.filter(number=int(number)) if number else found.filter(aliases__name=alias)
    origin = found.select_related("model").first()
    if origin is None:
        extra = {"model": name, "version": number or alias}
        raise NotFound("version_unknown", f"{name} has no version {number or alias}.", extra=extra)
    if origin.status != VersionStatus.READY:
        raise PolicyRefused("version_not_ready", f"{source} is {origin.status}; only a ready version can be copied.")
    return origin
