"""Credentials that somebody typed: what they may say, how they become a client's, and when they end."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from kubernetes import client

from apps.kernel.errors import InvalidInput

MAX_CHARACTERS = 128 * 1024
OF_MODE: Mapping[str, tuple[str, ...]] = {"kubeconfig": ("kubeconfig",), "token": ("token", "ca"), "in_cluster": ()}
_FILES = ("certificate-authority", "client-certificate", "client-key", "tokenFile")


def check_secrets(auth: Mapping[str, Any], secrets: Mapping[str, Any]) -> None:
    """The form of what was typed. Raises InvalidInput naming the field; nothing of a value is repeated."""
    mode = str(auth.get("mode", "in_cluster"))
    for key, value in secrets.items():
        known = ", ".join(OF_MODE.get(mode, ())) or "none"
        if key not in OF_MODE.get(mode, ()):
            raise _fault(key, "unknown_field", f"is not known for mode {mode}; there {known} may be given.")
        if not isinstance(value, str) or not value.strip():
            raise _fault(key, "required", "must be a text that is not empty.")
        if len(value) > MAX_CHARACTERS or "\0" in value:
            raise _fault(key, "too_long", f"may have at most {MAX_CHARACTERS:,} characters, and no NUL.")
    if "token" in secrets and any(sign.isspace() for sign in secrets["token"].strip()):
        raise _fault("token", "bad_token", "holds white space; a token is one word.")
    if "ca" in secrets:
        _check_authority(secrets["ca"])
    for key, file in (("kubeconfig", "kubeconfig_file"), ("token", "token_file"), ("ca", "ca_file")):
        if key in secrets and auth.get(file):
            raise _fault(key, "contradiction", f"cannot be given beside auth.{file}; choose one.")


def kubeconfig_of(text: str) -> Any:
    """The document. Raises InvalidInput for what is no YAML, and for one that names files: they would be this
    machine's, and whoever types a kubeconfig must not thereby read them."""
    try:
        document = yaml.safe_load(text)
    except (ValueError, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "its text"
        raise _fault("kubeconfig", "bad_kubeconfig", f"is no YAML: {place} cannot be read.") from error
    for key in _named(document):
        if key in _FILES:
            data = f"{key}-data" if key != "tokenFile" else "token"
            raise _fault("kubeconfig", "names_a_file", f"names a file ({key}); put its contents there ({data}).")
    return document


def ends_at(configuration: client.Configuration) -> datetime | None:
    """When the token (a JWT) or the client certificate ends; None where neither says so.

    Read without checking any signature: it is for people to plan by, the cluster decides.
    """
    keys = configuration.api_key or {}
    token = str(keys.get("BearerToken") or keys.get("authorization") or "")
    if token:
        return _token_end(token.removeprefix("Bearer ").strip())
    if configuration.cert_file:
        try:
            certificate = x509.load_pem_x509_certificate(Path(configuration.cert_file).read_bytes())
        except (OSError, ValueError):
            return None
        return certificate.not_valid_after_utc
    return None


def _token_end(token: str) -> datetime | None:
    parts = token.split(".")
    if len(parts) != 3:
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
        end = claims["exp"]
        return datetime.fromtimestamp(float(end), UTC)
    except (ValueError, KeyError, TypeError, binascii.Error, OverflowError, OSError):
        return None


def _named(document: Any) -> Iterator[str]:
    if isinstance(document, Mapping):
        for key, value in document.items():
            yield str(key)
            yield from _named(value)
    elif isinstance(document, list):
        for item in document:
            yield from _named(item)


def _check_authority(text: str) -> None:
    try:
        x509.load_pem_x509_certificates(text.encode())
    except ValueError as error:
        raise _fault("ca", "bad_certificate", "holds no certificate in PEM form.") from error


def _fault(key: str, code: str, what: str) -> InvalidInput:
    return InvalidInput.at(f"/credentials/{key}", code, f"/credentials/{key} {what}")
