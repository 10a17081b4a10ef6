"""System checks: settings that contradict each other are named before anything starts."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning


@register()
def secrets_are_real(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Short or shared secrets are refused."""
    found: list[CheckMessage] = []
    if len(settings.SECRET_KEY) < 40:
        found.append(
            Error(
                "PILOTHOUSE_SECRET_KEY is shorter than 40 characters.",
                hint="`make up` makes one.",
                id="pilothouse.E001",
            )
        )
    if len(settings.PILOTHOUSE_INGEST_TOKEN) < 16:
        found.append(
            Error(
                "PILOTHOUSE_INGEST_TOKEN is shorter than 16 characters.",
                hint="`make up` makes one.",
                id="pilothouse.E002",
            )
        )
    if settings.SECRET_KEY == settings.PILOTHOUSE_INGEST_TOKEN:
        found.append(Error("The ingest token is the secret key.", hint="Make two secrets.", id="pilothouse.E003"))
    return found


@register()
def debug_stays_at_home(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Debug pages show settings and rows."""
    if settings.DEBUG and settings.PILOTHOUSE_BASE_URL.startswith("https://"):
        return [CheckWarning("PILOTHOUSE_DEBUG is true behind an https address.", id="pilothouse.W001")]
    return []


@register()
def readable_folders_are_narrow(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Whoever may register a version, or connect a target, reads below these."""
    home = settings.PILOTHOUSE_HOME.resolve()
    found: list[CheckMessage] = []
    for name in ("PILOTHOUSE_ARTIFACT_ROOTS", "PILOTHOUSE_TOKEN_ROOTS"):
        for folder in getattr(settings, name):
            place = folder.resolve()
            if (home / "secrets").is_relative_to(place):
                found.append(
                    CheckWarning(
                        f"{name} holds {folder}, and with it this installation's own secrets.",
                        hint="Name the folders of the artifacts (or of the targets' tokens) themselves.",
                        id="pilothouse.W002",
                    )
                )
    return found
