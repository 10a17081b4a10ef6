"""System checks of where secrets lie, what is read and who is called: named before a start, with the way out."""

from __future__ import annotations

import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import fsspec
from django.conf import settings
from django.core.checks import CheckMessage, Error, register
from django.core.checks import Warning as CheckWarning

from apps.kernel.rate_limit import policies

_HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?)(?::\d{1,5})?")
_LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
YEAR_DAYS = 365


@register()
def limits_can_be_read(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """A misspelt limit would be found by the first request."""
    try:
        policies()
    except ValueError as error:
        return [Error(str(error), hint="Unset it for the defaults, docs/operations.md.", id="pilothouse.E004")]
    return []


@register()
def keys_are_kept_apart(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The key ring of the vault and the signing key of the audit log: only ours, and nowhere that a version is read."""
    return [
        *_kept("PILOTHOUSE_VAULT_FILE", settings.PILOTHOUSE_VAULT_FILE),
        *_kept("PILOTHOUSE_AUDIT_KEYS", settings.PILOTHOUSE_AUDIT_KEYS),
    ]


def _kept(name: str, place: Path) -> Iterator[CheckMessage]:
    here = place.resolve()
    if not place.is_absolute():
        yield Error(f"{name} is {str(place)!r}, a relative path.", hint="Say an absolute one.", id="pilothouse.E005")
    for folder in settings.PILOTHOUSE_ARTIFACT_ROOTS:
        if here.is_relative_to(folder.resolve()) and folder.resolve() != Path("/"):
            yield Error(
                f"{name} lies below {folder}, where whoever registers a version reads.",
                hint="Move the keys, or narrow PILOTHOUSE_ARTIFACT_ROOTS.",
                id="pilothouse.E006",
            )
    for file in [here] if here.is_file() else sorted(here.glob("*.pem")) if here.is_dir() else []:
        if stat.S_IMODE(file.stat().st_mode) & 0o077:
            yield Error(f"{file} can be read by others.", hint=f"chmod 600 {file}", id="pilothouse.E007")


@register()
def the_audit_log_has_a_witness(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """Checkpoints that lie beside the log prove nothing to whoever distrusts its keeper."""
    sink = settings.PILOTHOUSE_AUDIT_SINK
    if not sink:
        if not settings.PILOTHOUSE_BASE_URL.startswith("https://"):
            return []
        return [
            CheckWarning(
                "PILOTHOUSE_AUDIT_SINK is not set: signed checkpoints stay in the database alone.",
                hint="Name a folder of another machine, a bucket that can only be added to, or an https address.",
                id="pilothouse.W003",
            )
        ]
    return _known("PILOTHOUSE_AUDIT_SINK", sink, also=frozenset({"http", "https"}))


@register()
def artifacts_have_a_place(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """The store is somewhere that can be opened; what workers may read is named narrowly."""
    found = _known("PILOTHOUSE_ARTIFACT_STORE", settings.PILOTHOUSE_ARTIFACT_STORE)
    secrets = (settings.PILOTHOUSE_HOME / "secrets").resolve()
    for source in settings.PILOTHOUSE_ARTIFACT_SOURCES:
        found += _known("PILOTHOUSE_ARTIFACT_SOURCES", source, also=frozenset({"http", "https"}))
        scheme, mark, rest = source.partition("://")
        path = Path(rest if mark else source)
        if (not mark or scheme == "file") and path.is_absolute() and secrets.is_relative_to(path.resolve()):
            found.append(
                CheckWarning(
                    f"PILOTHOUSE_ARTIFACT_SOURCES holds {source}, and with it this installation's own secrets.",
                    hint="Name the folders of the artifacts themselves.",
                    id="pilothouse.W004",
                )
            )
    return found


def _known(name: str, address: str, *, also: frozenset[str] = frozenset()) -> list[CheckMessage]:
    scheme, mark, _ = address.partition("://")
    if not mark:
        if Path(address).is_absolute():
            return []
        return [
            Error(
                f"{name} is {address!r}, neither an absolute folder nor an address.",
                hint="Say for example /srv/artifacts or s3://bucket/folder.",
                id="pilothouse.E008",
            )
        ]
    if scheme in also:
        return []
    try:
        fsspec.get_filesystem_class(scheme)
    except (ValueError, ImportError) as error:
        hint = "Install the package that fsspec names, in the image of web and worker, or choose another place."
        return [Error(f"{name} is {address!r}, which cannot be opened: {error}", hint=hint, id="pilothouse.E009")]
    return []


@register()
def calls_out_are_narrow(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """What opens inner addresses is a list of hosts, not of patterns."""
    return [
        Error(
            f"PILOTHOUSE_OUTBOUND_ALLOW names {item!r}, which is no host.",
            hint="Say hosts, each with or without a port, separated by commas: prometheus:9090,10.0.0.7.",
            id="pilothouse.E010",
        )
        for item in settings.PILOTHOUSE_OUTBOUND_ALLOW
        if not _HOST.fullmatch(item)
    ]


@register()
def sign_in_is_safe(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    """An identity provider over https; keys that end within a year."""
    found: list[CheckMessage] = []
    providers: dict[str, Any] = settings.SOCIALACCOUNT_PROVIDERS
    for app in providers.get("openid_connect", {}).get("APPS", ()):
        issuer = urlsplit(app["settings"]["server_url"])
        if issuer.scheme != "https" and issuer.hostname not in _LOOPBACK:
            found.append(
                Error(
                    f"PILOTHOUSE_OIDC_ISSUER is {issuer.geturl()}: who signs in would be decided by whoever can "
                    "change what is on the wire.",
                    hint="Use the provider's https address.",
                    id="pilothouse.E011",
                )
            )
    if settings.PILOTHOUSE_KEY_MAX_DAYS > YEAR_DAYS:
        found.append(
            CheckWarning(
                f"PILOTHOUSE_KEY_MAX_DAYS is {settings.PILOTHOUSE_KEY_MAX_DAYS}: keys may live for years.",
                hint="90 is the default; CI needs no keys at all with token exchange.",
                id="pilothouse.W005",
            )
        )
    return found
