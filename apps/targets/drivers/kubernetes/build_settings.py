"""How a cluster builds images: the connection's ``build``, parsed once."""

from __future__ import annotations

from apps.registry.domain.images import ImageReference
from apps.targets.drivers.kubernetes.quantity import quantity
from apps.targets.drivers.kubernetes.reading import Reader
from apps.targets.images.job import DEFAULT_IMAGE, BuildSettings


def build_settings(reader: Reader) -> BuildSettings:
    """The connection's ``build``. Raises InvalidInput naming the field."""
    settings = BuildSettings(
        repository=reader.text("repository", is_required=True),
        push_secret=reader.text("push_secret", is_required=True),
        token_secret=reader.text("token_secret", is_required=True),
        image=reader.text("image", DEFAULT_IMAGE),
        url=reader.text("url"),
        cpu=reader.text("cpu", "1"),
        memory=reader.text("memory", "4Gi"),
        scratch=reader.text("scratch", "20Gi"),
        seconds=reader.number("seconds", 3600, least=60, most=86_400),
    )
    reader.end()
    plain = settings.repository.replace("{model}", "model")
    found = ImageReference.parse(plain, f"{reader.pointer}/repository")
    if found.tag or found.digest:
        raise reader.fault("repository", "bad_image", "must name no tag: the version is the tag")
    ImageReference.parse(settings.image, f"{reader.pointer}/image")
    if settings.url and not settings.url.startswith(("http://", "https://")):
        raise reader.fault("url", "bad_url", "must be an http:// or https:// address")
    for key in ("cpu", "memory", "scratch"):
        try:
            quantity(getattr(settings, key))
        except ValueError as error:
            raise reader.fault(key, "bad_quantity", f"is no Kubernetes quantity: {error}") from error
    return settings
